/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/connections.h"

#include "common/deadline.h"
#include "tests/support/unit.h"

#include <sys/socket.h>
#include <unistd.h>

#define N 5u

struct rig {
    struct connections all;
    struct connection c[N];
    int theirs[N];
};

static void open_rig(struct rig *r)
{
    *r = (struct rig){ .all = CONNECTIONS_INIT };
    for (size_t i = 0; i < N; i++) {
        int pair[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        r->theirs[i] = pair[1];
        connections_add(&r->all, &r->c[i], pair[0]);
    }
}

static bool is_cut(const struct rig *r, size_t i)
{
    char byte;

    return recv(r->theirs[i], &byte, 1, MSG_DONTWAIT) == 0;
}

static void close_rig(struct rig *r)
{
    for (size_t i = 0; i < N; i++) {
        connections_remove(&r->all, &r->c[i]);
        (void)close(r->c[i].fd);
        (void)close(r->theirs[i]);
    }
    assert_int_equal(r->all.n, 0);
    assert_null(r->all.first);
    assert_null(r->all.last);
}

static void test_the_oldest_go_when_there_are_too_many(void **state UNUSED)
{
    struct rig r;

    open_rig(&r);
    assert_int_equal(connections_cut(&r.all, 1000000, N), 0);
    connections_renew(&r.all, &r.c[0]); /* it got an answer: it is the newest now */
    connections_wait(&r.all, &r.c[1]);  /* the answer is ours to give */
    assert_int_equal(connections_cut(&r.all, 1000000, 3), 2);
    assert_false(is_cut(&r, 0));
    assert_false(is_cut(&r, 1));
    assert_true(is_cut(&r, 2));
    assert_true(is_cut(&r, 3));
    assert_false(is_cut(&r, 4));
    assert_int_equal(connections_cut(&r.all, 1000000, 3),
                     0); /* those that are on their way count */
    close_rig(&r);
}

static void test_the_slow_go(void **state UNUSED)
{
    struct rig r;

    open_rig(&r);
    for (size_t i = 0; i < 3; i++)
        r.c[i].since = clock_ms() - 5000;
    connections_wait(&r.all, &r.c[0]);
    assert_int_equal(connections_cut(&r.all, 4000, N), 2);
    assert_false(is_cut(&r, 0));
    assert_true(is_cut(&r, 1));
    assert_true(is_cut(&r, 2));
    assert_false(is_cut(&r, 3));
    assert_int_equal(connections_cut(&r.all, 4000, N), 0);
    close_rig(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_oldest_go_when_there_are_too_many),
        cmocka_unit_test(test_the_slow_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

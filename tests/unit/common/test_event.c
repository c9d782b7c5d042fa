/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/event.h"

#include "common/deadline.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>
#include <cmocka.h>

struct world {
    struct event_loop *loop;
    char order[32];
};

struct named {
    struct world *w;
    char name;
};

static void world_make(struct world *w)
{
    struct error err = ERROR_INIT;

    memset(w, 0, sizeof(*w));
    assert_int_equal(event_loop_new(&w->loop, &err), 0);
}

static void note(void *ctx)
{
    struct named *n = ctx;

    n->w->order[strlen(n->w->order)] = n->name;
}

static void turn(struct world *w, uint64_t ms)
{
    struct error err = ERROR_INIT;

    assert_int_equal(event_loop_turn(w->loop, deadline_in(ms), &err), 0);
}

static void test_timers_in_order(void **state UNUSED)
{
    struct world w;
    struct named a = { &w, 'a' }, b = { &w, 'b' }, c = { &w, 'c' }, d = { &w, 'd' };
    struct event_timer ta = { note, &a, 0, false, NULL, NULL },
                       tb = { note, &b, 0, false, NULL, NULL };
    struct event_timer tc = { note, &c, 0, false, NULL, NULL },
                       td = { note, &d, 0, false, NULL, NULL };

    world_make(&w);
    event_timer_set(w.loop, &ta, 3);
    event_timer_set(w.loop, &tb, 2);
    event_timer_set(w.loop, &tc, 2);
    event_timer_set(w.loop, &td, 1);
    event_timer_set(w.loop, &ta, 0);              /* set anew: it moves */
    event_timer_stop(w.loop, &td);                /* never fires */
    event_timer_set(w.loop, &td, DEADLINE_NEVER); /* nor so */
    assert_false(td.on);
    turn(&w, 0);
    assert_string_equal(w.order, "abc");
    turn(&w, 0); /* once each */
    assert_string_equal(w.order, "abc");
    event_loop_free(w.loop);
}

static void again(void *ctx)
{
    struct named *n = ctx;
    static struct event_timer t;

    note(n);
    t = (struct event_timer){ .fire = note, .ctx = n };
    event_timer_set(n->w->loop, &t, 0);
}

static void test_timer_set_by_a_timer(void **state UNUSED)
{
    struct world w;
    struct named a = { &w, 'a' };
    struct event_timer t = { .fire = again, .ctx = &a };

    world_make(&w);
    event_timer_set(w.loop, &t, 0);
    turn(&w, 0);
    turn(&w, 0);
    assert_string_equal(w.order, "aa");
    event_loop_free(w.loop);
}

struct pair {
    struct world *w;
    struct event_watch mine, *other;
    uint32_t got;
};

static void on_ready(void *ctx, uint32_t events)
{
    struct pair *p = ctx;

    p->got |= events;
    if (p->other != NULL)
        event_unwatch(p->w->loop, p->other);
}

/* Both are ready in one batch; the first to run takes the other out: it must not run. */
static void test_removed_in_the_same_batch(void **state UNUSED)
{
    struct world w;
    struct pair one = { .w = &w }, two = { .w = &w };
    struct error err = ERROR_INIT;
    int fds[2][2];

    world_make(&w);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pipe2(fds[i], O_CLOEXEC), 0);
        assert_int_equal(write(fds[i][1], "x", 1), 1);
    }
    one.mine = (struct event_watch){ -1, on_ready, &one };
    two.mine = (struct event_watch){ -1, on_ready, &two };
    one.other = &two.mine;
    two.other = &one.mine;
    assert_int_equal(event_watch(w.loop, &one.mine, fds[0][0], EPOLLIN, &err), 0);
    assert_int_equal(event_watch(w.loop, &two.mine, fds[1][0], EPOLLIN, &err), 0);
    turn(&w, 5000);
    assert_int_equal((one.got != 0) + (two.got != 0), 1);
    event_unwatch(w.loop, &one.mine);
    event_unwatch(w.loop, &two.mine);
    for (int i = 0; i < 4; i++)
        (void)close(fds[i / 2][i % 2]);
    event_loop_free(w.loop);
}

static void test_change(void **state UNUSED)
{
    struct world w;
    struct pair one = { .w = &w };
    struct error err = ERROR_INIT;
    int fds[2];

    world_make(&w);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    one.mine = (struct event_watch){ -1, on_ready, &one };
    assert_int_equal(event_watch(w.loop, &one.mine, fds[1], 0, &err), 0);
    turn(&w, 10);
    assert_int_equal(one.got, 0);
    assert_int_equal(event_watch_change(w.loop, &one.mine, EPOLLOUT, &err), 0);
    turn(&w, 5000);
    assert_true((one.got & EPOLLOUT) != 0);
    assert_true(event_watch(w.loop, &one.mine, fds[1], EPOLLIN, &err) < 0); /* twice */
    event_unwatch(w.loop, &one.mine);
    event_unwatch(w.loop, &one.mine); /* harmless */
    (void)close(fds[0]);
    (void)close(fds[1]);
    event_loop_free(w.loop);
}

static void stop(void *ctx)
{
    event_loop_stop(ctx);
}

static void test_run_until_stop(void **state UNUSED)
{
    struct world w;
    struct error err = ERROR_INIT;

    world_make(&w);
    struct event_timer t = { .fire = stop, .ctx = w.loop };
    event_timer_set(w.loop, &t, deadline_in(5));
    assert_int_equal(event_loop_run(w.loop, &err), 0);
    event_loop_free(w.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timers_in_order),
        cmocka_unit_test(test_timer_set_by_a_timer),
        cmocka_unit_test(test_removed_in_the_same_batch),
        cmocka_unit_test(test_change),
        cmocka_unit_test(test_run_until_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/vm_probe.h"

#include "common/deadline.h"
#include "tests/unit/scheduler/played.h"

#define REQUEST "GET /personalcloud/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

static bool answers(const char *says)
{
    struct played p = { .n = 0 };
    bool ready;

    played_start(&p, says, sizeof(REQUEST) - 1);
    ready = vm_probe(p.path, "/personalcloud/", deadline_in(30000));
    played_end(&p);
    assert_string_equal(p.got, REQUEST);
    return ready;
}

static void test_ready(void **state UNUSED)
{
    assert_true(answers("HTTP/1.1 200 OK\r\n\r\n{}"));
    assert_true(answers("HTTP/1.0 204 No Content\r\n\r\n"));
    assert_true(answers("HTTP/1.1 299"));
}

static void test_not_ready(void **state UNUSED)
{
    static const char *const bad[] = {
        "",
        "HTTP/1.1 20",
        "HTTP/1.1 503 Service Unavailable\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\n\r\n",
        "HTTP/1.1 302 Found\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n",
        "HTTP/1.1 2x0 OK\r\n",
        "200 OK\r\n\r\n        ",
    };

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        if (answers(bad[i]))
            fail_msg("'%s' was taken for ready", bad[i]);
}

static void test_nobody_and_nothing(void **state UNUSED)
{
    struct played p = { .silent = true };

    assert_false(vm_probe("/nowhere/s", "/", deadline_in(30000)));
    played_start(&p, "", 1);
    assert_false(vm_probe(p.path, "/", deadline_in(50)));
    played_end(&p);
}

/* It sends for ever, and is not listened to. */
static void test_a_flood(void **state UNUSED)
{
    static char flood[MIB(1)];

    memset(flood, 'x', sizeof(flood) - 1);
    memcpy(flood, "HTTP/1.1 200 ", 13);
    assert_true(answers(flood));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ready),
        cmocka_unit_test(test_not_ready),
        cmocka_unit_test(test_nobody_and_nothing),
        cmocka_unit_test(test_a_flood),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

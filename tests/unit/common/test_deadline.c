/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/deadline.h"

#include "tests/support/unit.h"

#include <limits.h>

static void test_points(void **state UNUSED)
{
    uint64_t now = clock_ms();

    assert_true(deadline_in(1000) >= now + 1000);
    assert_true(deadline_in(1000) < now + 60000);
    assert_int_equal(deadline_in(DEADLINE_NEVER), DEADLINE_NEVER);
    assert_int_equal(deadline_in(DEADLINE_NEVER - 1), DEADLINE_NEVER);
    assert_int_equal(deadline_left(0), 0);
    assert_int_equal(deadline_left(clock_ms()), 0);
    assert_int_equal(deadline_left(DEADLINE_NEVER), UINT64_MAX);
    assert_true(deadline_left(deadline_in(60000)) > 30000);
    assert_true(deadline_left(deadline_in(60000)) <= 60000);
    assert_int_equal(deadline_sooner(now, 60000), now);
    assert_in_range(deadline_left(deadline_sooner(DEADLINE_NEVER, 60000)), 30000, 60000);
}

static void test_poll(void **state UNUSED)
{
    assert_int_equal(deadline_poll_timeout(DEADLINE_NEVER), -1);
    assert_int_equal(deadline_poll_timeout(0), 0);
    assert_int_equal(deadline_poll_timeout(DEADLINE_NEVER - 1), INT_MAX);
    assert_in_range(deadline_poll_timeout(deadline_in(60000)), 30000, 60000);
}

static void test_sleep(void **state UNUSED)
{
    uint64_t before = clock_ms();

    sleep_ms(0);
    sleep_ms(30);
    assert_true(clock_ms() - before >= 29);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_points),
        cmocka_unit_test(test_poll),
        cmocka_unit_test(test_sleep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

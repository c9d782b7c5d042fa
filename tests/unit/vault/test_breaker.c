/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "vault/breaker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void fail_times(struct breaker *b, unsigned n, uint64_t now)
{
    for (unsigned i = 0; i < n; i++)
        breaker_failure(b, now, 0);
}

static void test_opens_after_failures_in_a_row(void **state UNUSED)
{
    struct breaker b = { .failures = 0 };

    fail_times(&b, BREAKER_FAILURES - 1, 100);
    breaker_success(&b); /* the row starts anew */
    fail_times(&b, BREAKER_FAILURES - 1, 100);
    assert_true(breaker_allow(&b, 100));
    assert_string_equal(breaker_state(&b, 100), "closed");
    fail_times(&b, 1, 100);
    assert_false(breaker_allow(&b, 100));
    assert_string_equal(breaker_state(&b, 100), "open");
}

static void test_one_probe(void **state UNUSED)
{
    struct breaker b = { .failures = 0 };
    uint64_t later = 100 + 2 * BREAKER_PAUSE_MIN_MS;

    fail_times(&b, BREAKER_FAILURES, 100);
    assert_true(breaker_allow(&b, later));
    assert_string_equal(breaker_state(&b, later), "half-open");
    assert_false(breaker_allow(&b, later)); /* the first one's result decides */
    breaker_forget(&b);                     /* it had none */
    assert_true(breaker_allow(&b, later));
    breaker_success(&b);
    assert_true(breaker_allow(&b, later));
    assert_true(breaker_allow(&b, later));
}

static void test_pause_doubles_up_to_its_maximum(void **state UNUSED)
{
    struct breaker b = { .failures = 0 };
    uint64_t now = 0, last = 0;

    fail_times(&b, BREAKER_FAILURES, now);
    for (int i = 0; i < 10; i++) {
        uint64_t pause = b.open_until - now;

        assert_true(pause >= last && pause <= BREAKER_PAUSE_MAX_MS * 5 / 4);
        last = pause;
        now = b.open_until;
        assert_true(breaker_allow(&b, now));
        breaker_failure(&b, now, 0);
    }
    assert_int_equal(b.pause_ms, BREAKER_PAUSE_MAX_MS);
}

/* Many were under way when it opened; what becomes of them says nothing new. */
static void test_one_outage_opens_it_once(void **state UNUSED)
{
    struct breaker b = { .failures = 0 };

    fail_times(&b, 100, 100);
    assert_int_equal(b.pause_ms, BREAKER_PAUSE_MIN_MS);
    assert_true(breaker_allow(&b, 100 + 2 * BREAKER_PAUSE_MIN_MS));
    fail_times(&b, 100, 100 + 2 * BREAKER_PAUSE_MIN_MS);
    assert_int_equal(b.pause_ms, 2 * BREAKER_PAUSE_MIN_MS);
}

static void test_jitter_stays_within_a_quarter(void **state UNUSED)
{
    static const uint32_t numbers[] = { 0, 1, 499, 500, 501, 0x7fffffff, UINT32_MAX };

    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        struct breaker b = { .failures = BREAKER_FAILURES - 1 };

        breaker_failure(&b, 0, numbers[i]);
        assert_in_range(b.open_until, BREAKER_PAUSE_MIN_MS * 3 / 4, BREAKER_PAUSE_MIN_MS * 5 / 4);
    }
}

static void test_backoff(void **state UNUSED)
{
    assert_int_equal(backoff_ms(1, 0), 50);
    assert_int_equal(backoff_ms(2, 0), 100);
    for (unsigned n = 1; n < 100; n++)
        assert_in_range(backoff_ms(n, n * 7919), 50, 2000);
    assert_int_equal(backoff_ms(UINT32_MAX, 0), 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opens_after_failures_in_a_row),
        cmocka_unit_test(test_one_probe),
        cmocka_unit_test(test_pause_doubles_up_to_its_maximum),
        cmocka_unit_test(test_one_outage_opens_it_once),
        cmocka_unit_test(test_jitter_stays_within_a_quarter),
        cmocka_unit_test(test_backoff),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

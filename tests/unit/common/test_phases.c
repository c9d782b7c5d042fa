/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/unit.h"

#include "common/deadline.h"
#include "common/phases.h"

static void test_same_name_adds_up(void **state UNUSED)
{
    struct phases p = { .n = 0 };
    uint64_t now = clock_us();

    phases_add(&p, "attach_us", now - 1000);
    phases_add(&p, "unwrap_us", now - 5000);
    phases_add(&p, "attach_us", now - 2000);
    assert_int_equal(p.n, 2);
    assert_string_equal(p.items[0].name, "attach_us");
    assert_true(p.items[0].us >= 3000 && p.items[0].us < 3000 + 60000000);
    assert_true(p.items[1].us >= 5000);
}

static void test_bounded(void **state UNUSED)
{
    char names[PHASES_MAX + 1][8];
    struct phases p = { .n = 0 };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        (void)snprintf(names[i], sizeof(names[i]), "p%zu", i);
        phases_add(&p, names[i], clock_us());
    }
    assert_int_equal(p.n, PHASES_MAX);
    phases_add(&p, names[0], clock_us() - 100);
    assert_true(p.items[0].us >= 100);
}

static void test_nobody_asks(void **state UNUSED)
{
    phases_add(NULL, "attach_us", clock_us());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_name_adds_up),
        cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_nobody_asks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

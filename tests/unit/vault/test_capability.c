/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "vault/capability.h"

#include "tests/support/unit.h"

static void test_in(void **state UNUSED)
{
    static const struct {
        const char *list, *capability;
        bool held;
    } rows[] = {
        { "[\"update\", \"read\"]", "read", true },
        { "[\"update\", \"read\"]", "create", false },
        { "[\"root\"]", "sudo", true },
        { "[\"deny\"]", "read", false },
        { "[]", "read", false },
        { "[1, null, \"read\"]", "read", true },
        { "[\"reader\"]", "read", false },
        { "{\"read\": true}", "read", false },
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        json_t *list = json_loads(rows[i].list, 0, NULL);

        assert_non_null(list);
        assert_int_equal(vault_capability_in(list, rows[i].capability), rows[i].held);
        json_decref(list);
    }
    assert_false(vault_capability_in(NULL, "read"));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_in) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

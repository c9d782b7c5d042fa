/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/names.h"

#include "tests/support/unit.h"

#include <unistd.h>

static void test_names(void **state UNUSED)
{
    static const char *const good[] = { "csi.coffer.dev", "ab", "a-b_c.D" };
    static const char *const bad[] = {
        "",
        "a",
        "csi.coffer.dev1",
        "1csi",
        ".csi",
        "csi.",
        "csi coffer",
        "csi/coffer",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    };
    static const char *const bad_nodes[] = { "", "-n1", "n1.", "n 1", "n/1" };
    char key[TOPOLOGY_KEY_MAX + 1];
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_int_equal(driver_names_check(good[i], "n1", key, &err), 0);
    assert_string_equal(key, "topology.a-b_c.D/node");
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(driver_names_check(bad[i], "n1", key, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad_nodes); i++) {
        assert_int_equal(driver_names_check("csi.coffer.dev", bad_nodes[i], key, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
}

static void test_node_id(void **state UNUSED)
{
    const char *given = "n1", *host = "";
    char here[256] = "";
    struct error err = ERROR_INIT;

    assert_int_equal(driver_node_id(&given, &err), 0);
    assert_string_equal(given, "n1");
    assert_int_equal(gethostname(here, sizeof(here) - 1), 0);
    assert_int_equal(driver_node_id(&host, &err), 0);
    assert_string_equal(host, here);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_names),
                                        cmocka_unit_test(test_node_id) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/peers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void test_both_ids_count(void **state UNUSED)
{
    const struct flag_strings texts = { .items = { "0:0", "1000:1001" }, .len = 2 };
    struct peers peers;
    struct error err = ERROR_INIT;
    assert_int_equal(peers_parse(&texts, &peers, &err), 0);
    assert_true(peers_allow(&peers, 0, 0));
    assert_true(peers_allow(&peers, 1000, 1001));
    assert_false(peers_allow(&peers, 0, 1001));
    assert_false(peers_allow(&peers, 1000, 0));
    assert_false(peers_allow(&peers, 1001, 1000));
}

static void test_none(void **state UNUSED)
{
    const struct flag_strings texts = { .len = 0 };
    struct peers peers = { .n = 7 };
    struct error err = ERROR_INIT;
    assert_int_equal(peers_parse(&texts, &peers, &err), -1);
    assert_string_equal(err.msg, "--peer is needed: the UID:GID that may connect");
    assert_int_equal(peers.n, 7);
}

static void test_malformed(void **state UNUSED)
{
    static const char *const bad[] = { "",
                                       "0",
                                       ":",
                                       "0:",
                                       ":0",
                                       "0:0:0",
                                       "-1:0",
                                       "root:root",
                                       " 0:0",
                                       "0:0 ",
                                       "4294967295:0",
                                       "0:4294967295",
                                       "99999999999999999999999999:0",
                                       "0x1:0" };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        const struct flag_strings texts = { .items = { bad[i] }, .len = 1 };
        struct peers peers;
        struct error err = ERROR_INIT;
        if (peers_parse(&texts, &peers, &err) == 0)
            fail_msg("'%s' was accepted", bad[i]);
        assert_int_equal(err.code, ERR_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_both_ids_count),
                                        cmocka_unit_test(test_none),
                                        cmocka_unit_test(test_malformed) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

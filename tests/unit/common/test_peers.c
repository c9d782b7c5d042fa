/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/peers.h"

#include "tests/support/tmpdir.h"
#include "tests/support/unit.h"

static void test_both_ids_count(void **state UNUSED)
{
    const struct flag_strings texts = { .items = { "0:0", "1000:1001" }, .len = 2 };
    struct peers peers;
    struct error err = ERROR_INIT;
    assert_int_equal(peers_parse(&texts, "/nowhere", &peers, &err), 0);
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
    assert_int_equal(peers_parse(&texts, "/nowhere", &peers, &err), -1);
    assert_string_equal(err.msg, "--peer is needed: the USER:GROUP that may connect");
    assert_int_equal(peers.n, 7);
}

static void test_malformed(void **state UNUSED)
{
    static const char *const bad[] = {
        "",     "0",    ":",    "0:",           ":0",           "0:0:0",
        "-1:0", " 0:0", "0:0 ", "4294967295:0", "0:4294967295", "99999999999999999999999999:0",
        "0x1:0"
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        const struct flag_strings texts = { .items = { bad[i] }, .len = 1 };
        struct peers peers;
        struct error err = ERROR_INIT;
        if (peers_parse(&texts, "/nowhere", &peers, &err) == 0)
            fail_msg("'%s' was accepted", bad[i]);
        assert_int_equal(err.code, ERR_INVALID);
    }
}

static void test_a_group(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    gid_t gid = 7;

    tmpdir_write(&t, "group", "coffer:x:990:\n", 14);
    assert_works(peers_group_parse("coffer", t.path, &gid, &err));
    assert_int_equal(gid, 990);
    assert_works(peers_group_parse("12", t.path, &gid, &err));
    assert_int_equal(gid, 12);
    assert_fails(peers_group_parse("other", t.path, &gid, &err), ERR_INVALID,
                 "there is no group 'other'");
    assert_fails(peers_group_parse("1:2", t.path, &gid, &err), ERR_INVALID,
                 "'1:2' is neither a number nor a name");
    assert_int_equal(gid, 12);
}

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
                             "coffer-controller:x:991:990::/:/usr/sbin/nologin\n";
static const char group[] = "root:x:0:\ncoffer:x:990:coffer-controller\n";

static void test_names(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    const struct flag_strings texts = {
        .items = { "root:root", "coffer-controller:coffer", "coffer-controller:7" }, .len = 3
    };
    struct peers peers;
    tmpdir_write(&t, "passwd", passwd, strlen(passwd));
    tmpdir_write(&t, "group", group, strlen(group));
    assert_works(peers_parse(&texts, t.path, &peers, &err));
    assert_true(peers_allow(&peers, 0, 0));
    assert_true(peers_allow(&peers, 991, 990));
    assert_true(peers_allow(&peers, 991, 7));
    assert_false(peers_allow(&peers, 991, 0));
    assert_int_equal(peers.n, 3);
}

static void test_unknown_names(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    const struct flag_strings user = { .items = { "nobody:root" }, .len = 1 };
    const struct flag_strings other = { .items = { "root:coff" }, .len = 1 };
    struct peers peers = { .n = 7 };
    tmpdir_write(&t, "passwd", passwd, strlen(passwd));
    assert_fails(peers_parse(&user, t.path, &peers, &err), ERR_INVALID,
                 "--peer 'nobody:root': there is no user 'nobody'");
    assert_int_equal(peers_parse(&other, t.path, &peers, NULL), -1); /* no file is no answer */
    tmpdir_write(&t, "group", group, strlen(group));
    assert_fails(peers_parse(&other, t.path, &peers, &err), ERR_INVALID,
                 "--peer 'root:coff': there is no group 'coff'");
    assert_int_equal(peers.n, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ids_count), cmocka_unit_test(test_none),
        cmocka_unit_test(test_a_group),        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_names),          cmocka_unit_test(test_unknown_names)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

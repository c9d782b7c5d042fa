/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/host_volume.h"

#include "common/json.h"
#include "tests/support/unit.h"

#define ID "fast.0a1b2c3d.00112233445566778899aabbccddeeff"

static const char whole[] =
    "{\"v\":1,\"name\":\"data\",\"id\":\"" ID "\",\"fs\":\"ext4\",\"access_mode\":\"RWO\","
    "\"context\":{\"tenant\":\"host\",\"uuid\":\"u\"},\"targets\":["
    "{\"path\":\"/srv/a\",\"read_only\":false,\"kept\":{\"mode\":488,\"uid\":1,\"gid\":2}},"
    "{\"path\":\"/srv/b\",\"read_only\":true}]}";

static void test_names(void **state UNUSED)
{
    static const char *const good[] = { "a", "data", "Data.2-x_y", "0" };
    static const char *const bad[] = { "", ".a", "-a", "_a", "a/b", "a b", "\xc3\xa4", "a\n", ID };
    char name[HOST_VOLUME_NAME_MAX + 2];
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_works(host_volume_name_check(good[i], &err));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (host_volume_name_check(bad[i], NULL) == 0)
            fail_msg("'%s' was accepted", bad[i]);
    }
    memset(name, 'a', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(host_volume_name_check(name, NULL), -1);
    name[HOST_VOLUME_NAME_MAX] = '\0';
    assert_works(host_volume_name_check(name, &err));
}

static void test_round_trip(void **state UNUSED)
{
    AUTO_HOST_VOLUME struct host_volume v = HOST_VOLUME_INIT;
    AUTO_HOST_VOLUME struct host_volume again = HOST_VOLUME_INIT;
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(HOST_VOLUME_MAX);
    assert_works(host_volume_decode(whole, strlen(whole), &v, &err));
    assert_string_equal(v.id, ID);
    assert_int_equal(v.n_targets, 2);
    assert_true(v.targets[0].kept);
    assert_int_equal(v.targets[0].mode, 0750);
    assert_int_equal(v.targets[0].uid, 1);
    assert_int_equal(v.targets[0].gid, 2);
    assert_false(v.targets[1].kept);
    assert_true(v.targets[1].read_only);
    assert_works(host_volume_encode(&v, &text, &err));
    assert_works(host_volume_decode(strbuf_text(&text), text.len, &again, &err));
    assert_true(json_equal(v.context, again.context));
    assert_memory_equal(v.targets, again.targets, sizeof(v.targets));
    assert_string_equal(v.access_mode, again.access_mode);
}

/* One replacement in the good text each. */
static void test_refused(void **state UNUSED)
{
    static const struct {
        const char *from, *to, *sentence;
    } cases[] = {
        { "\"v\":1", "\"v\":2", "version 2 is not known" },
        { "\"fs\":", "\"colour\":1,\"fs\":", "colour" },
        { "\"name\":\"data\"", "\"name\":\"../x\"", "the name '../x'" },
        { "\"id\":\"fast", "\"id\":\"FAST", "is no volume's id" },
        { "\"RWO\"", "\"RWX\"", "access_mode 'RWX'" },
        { "\"u\"", "7", "field 'uuid' must be a string" },
        { "/srv/a", "srv/a", "absolute" },
        { "488", "99999", "out of range" },
        { "\"gid\":2", "\"gid\":4294967295", "out of range" },
        { "}]}", "}]", "" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct host_volume v = HOST_VOLUME_INIT;
        struct error err = ERROR_INIT;
        char text[1024];
        const char *at = strstr(whole, cases[i].from);
        assert_non_null(at);
        (void)snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - whole), whole, cases[i].to,
                       at + strlen(cases[i].from));
        assert_int_equal(host_volume_decode(text, strlen(text), &v, &err), -1);
        assert_int_equal(err.code, ERR_DATA_LOSS);
        if (strstr(err.msg, cases[i].sentence) == NULL)
            fail_msg("'%s' is not in '%s'", cases[i].sentence, err.msg);
        assert_null(v.context);
    }
}

static void test_targets(void **state UNUSED)
{
    AUTO_HOST_VOLUME struct host_volume v = HOST_VOLUME_INIT;
    assert_works(host_volume_decode(whole, strlen(whole), &v, &err));
    assert_int_equal(host_volume_find_target(&v, "/srv/b"), 1);
    assert_int_equal(host_volume_find_target(&v, "/srv"), 2);
    host_volume_remove_target(&v, 0);
    assert_int_equal(v.n_targets, 1);
    assert_string_equal(v.targets[0].path, "/srv/b");
    host_volume_remove_target(&v, 0);
    assert_int_equal(host_volume_find_target(&v, "/srv/b"), 0);
    assert_int_equal(v.n_targets, 0);
}

static void expect_capability(const char *fs, const char *mode, const char *want)
{
    struct host_volume v = HOST_VOLUME_INIT;
    assert_int_equal(str_copy(v.fs, sizeof(v.fs), fs), 0);
    assert_int_equal(str_copy(v.access_mode, sizeof(v.access_mode), mode), 0);
    AUTO_JSON json_t *capability = host_volume_capability(&v);
    char *text = json_text(capability, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text != NULL ? text : "none", want);
    free(text);
}

static void test_capability(void **state UNUSED)
{
    expect_capability("ext4", "RWO",
                      "{\"access_mode\":{\"mode\":\"SINGLE_NODE_MULTI_WRITER\"},"
                      "\"mount\":{\"fs_type\":\"ext4\"}}");
    expect_capability("none", "RWOP",
                      "{\"access_mode\":{\"mode\":\"SINGLE_NODE_SINGLE_WRITER\"},\"block\":{}}");
    expect_capability("ext4", "RWX", "none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),      cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refused),    cmocka_unit_test(test_targets),
        cmocka_unit_test(test_capability),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/config.h"

#include "tests/support/unit.h"

#define UIDS "\"uids\":{\"first\":2000000,\"count\":100000}"
#define REST "\"memory\":268435456,\"pids\":64,\"cpu_percent\":100," UIDS
#define GOOD "{\"command\":[\"/usr/bin/node\",\"x\"]," REST "}"

static void test_all_fields(void **state UNUSED)
{
    AUTO_LAUNCH_CONFIG struct launch_config *c = NULL;
    static const char text[] =
        "{\"command\":[\"/usr/bin/node\",\"x\"],\"folders\":[\"/opt/vm\"]," REST "}";

    assert_works(launch_config_parse(text, strlen(text), &c, &err));
    assert_string_equal(c->command[0], "/usr/bin/node");
    assert_string_equal(c->command[1], "x");
    assert_null(c->command[2]);
    assert_string_equal(c->folders[0], "/opt/vm");
    assert_null(c->folders[1]);
    assert_int_equal(c->memory, 268435456);
    assert_int_equal(c->pids, 64);
    assert_int_equal(c->cpu_percent, 100);
    assert_int_equal(c->uid_first, 2000000);
    assert_int_equal(c->uid_count, 100000);
}

static void test_folders_are_optional(void **state UNUSED)
{
    AUTO_LAUNCH_CONFIG struct launch_config *c = NULL;

    assert_works(launch_config_parse(GOOD, strlen(GOOD), &c, &err));
    assert_null(c->folders[0]);
}

static void test_wrong_values_are_named(void **state UNUSED)
{
    static const struct {
        const char *text, *sentence;
    } rows[] = {
        { "{" REST "}", "configuration: field 'command' is missing" },
        { "{\"command\":[]," REST "}",
          "configuration: field 'command' must begin with the absolute path of a program" },
        { "{\"command\":[\"node\"]," REST "}",
          "configuration: field 'command' must begin with the absolute path of a program" },
        { "{\"command\":[\"/usr/../node\"]," REST "}",
          "configuration: field 'command' must begin with the absolute path of a program" },
        { "{\"command\":[\"/x\",7]," REST "}",
          "configuration: field 'command' must hold texts of at most 4000 bytes" },
        { "{\"command\":[\"/x\"],\"other\":1," REST "}", "configuration: unknown field 'other'" },
        { "{\"command\":[\"/x\"],\"folders\":[\"/etc\"]," REST "}",
          "configuration: field 'folders' holds a path that can't be shown to a VM" },
        { "{\"command\":[\"/x\"],\"folders\":[\"/run/coffer\"]," REST "}",
          "configuration: field 'folders' holds a path that can't be shown to a VM" },
        { "{\"command\":[\"/x\"],\"folders\":[\"/opt/../etc\"]," REST "}",
          "configuration: field 'folders' holds a path that can't be shown to a VM" },
        { "{\"command\":[\"/x\"],\"folders\":\"/opt\"," REST "}",
          "configuration: field 'folders' must be an array" },
        { "{\"command\":[\"/x\"],\"memory\":1,\"pids\":64,\"cpu_percent\":100," UIDS "}",
          "configuration: field 'memory' must be 16777216 to 9223372036854775807" },
        { "{\"command\":[\"/x\"],\"memory\":268435456,\"pids\":7,\"cpu_percent\":100," UIDS "}",
          "configuration: field 'pids' must be 8 to 32768" },
        { "{\"command\":[\"/x\"],\"memory\":268435456,\"pids\":64,\"cpu_percent\":0," UIDS "}",
          "configuration: field 'cpu_percent' must be 1 to 102400" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct launch_config *c = NULL;
        assert_fails(launch_config_parse(rows[i].text, strlen(rows[i].text), &c, &err), ERR_INVALID,
                     rows[i].sentence);
        assert_null(c);
    }
}

/* The host's own users, more than there are, none. */
static void test_users_that_can_not_be(void **state UNUSED)
{
    static const char *const rows[] = {
        "{\"first\":1000,\"count\":1}",
        "{\"first\":65536,\"count\":0}",
        "{\"first\":4294967295,\"count\":1}",
        "{\"first\":2000000,\"count\":4294967295}",
        "{\"first\":2000000}",
        "{}",
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        char text[512];
        struct launch_config *c = NULL;
        struct error err = ERROR_INIT;
        (void)snprintf(text, sizeof(text),
                       "{\"command\":[\"/x\"],\"memory\":268435456,\"pids\":64,"
                       "\"cpu_percent\":100,\"uids\":%s}",
                       rows[i]);
        if (launch_config_parse(text, strlen(text), &c, &err) == 0)
            fail_msg("%s was accepted", rows[i]);
        assert_int_equal(err.code, ERR_INVALID);
        assert_non_null(strstr(err.msg, "uids"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_fields),
        cmocka_unit_test(test_folders_are_optional),
        cmocka_unit_test(test_wrong_values_are_named),
        cmocka_unit_test(test_users_that_can_not_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

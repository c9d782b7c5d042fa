/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/output.h"

#include "common/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const struct output_column columns[] = { { "id", "ID", false },
                                                { "size", "SIZE", true },
                                                { "sealed", "SEALED", false },
                                                { "n", "N", false } };

static char text[4096];

static json_t *parse(const char *json)
{
    json_t *v = json_own(json);
    assert_non_null(v);
    return v;
}

static void print_list(const char *json, enum output_format format)
{
    struct error err = ERROR_INIT;
    AUTO_JSON json_t *list = parse(json);
    FILE *f = fmemopen(text, sizeof(text), "w");
    assert_non_null(f);
    assert_int_equal(output_list(f, format, list, columns, ARRAY_SIZE(columns), &err), 0);
    (void)fclose(f);
}

static void print_object(const char *json, enum output_format format)
{
    struct error err = ERROR_INIT;
    AUTO_JSON json_t *object = parse(json);
    FILE *f = fmemopen(text, sizeof(text), "w");
    assert_non_null(f);
    assert_int_equal(output_object(f, format, object, columns, ARRAY_SIZE(columns), &err), 0);
    (void)fclose(f);
}

static void test_table(void **state UNUSED)
{
    print_list("[{\"id\":\"a\",\"size\":1073741824,\"sealed\":false,\"n\":7},"
               "{\"id\":\"longer\",\"size\":1025,\"sealed\":true,\"n\":-1}]",
               OUTPUT_TABLE);
    assert_string_equal(text, "ID      SIZE  SEALED  N\n"
                              "a       1Gi   no      7\n"
                              "longer  1025  yes     -1\n");
}

static void test_absent_values(void **state UNUSED)
{
    print_list("[{\"id\":\"\",\"size\":null}]", OUTPUT_TABLE);
    assert_string_equal(text, "ID  SIZE  SEALED  N\n-   -     -       -\n");
    print_list("[]", OUTPUT_TABLE);
    assert_string_equal(text, "ID  SIZE  SEALED  N\n");
}

static void test_sizes(void **state UNUSED)
{
    static const struct {
        const char *bytes, *want;
    } sizes[] = {
        { "0", "0" },
        { "1", "1" },
        { "1023", "1023" },
        { "1024", "1Ki" },
        { "1536", "1536" },
        { "1048576", "1Mi" },
        { "1074790400", "1025Mi" },
        { "1099511627776", "1Ti" },
        { "1125899906842624", "1024Ti" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        char json[64], want[64];
        assert_true(snprintf(json, sizeof(json), "{\"size\":%s}", sizes[i].bytes) > 0);
        assert_true(snprintf(want, sizeof(want), "\nSIZE    %s\n", sizes[i].want) > 0);
        print_object(json, OUTPUT_TABLE);
        if (strstr(text, want) == NULL)
            fail_msg("%s: '%s'", sizes[i].bytes, text);
    }
}

static void test_object(void **state UNUSED)
{
    print_object("{\"id\":\"v\",\"size\":4096,\"sealed\":true,\"n\":3,\"hidden\":\"x\"}",
                 OUTPUT_TABLE);
    assert_string_equal(text, "ID      v\nSIZE    4Ki\nSEALED  yes\nN       3\n");
}

static void expect_cell(const char *json, const char *cell)
{
    char want[128];
    assert_true(snprintf(want, sizeof(want), "ID      %s\n", cell) > 0);
    print_object(json, OUTPUT_TABLE);
    if (strncmp(text, want, strlen(want)) != 0)
        fail_msg("'%s' instead of '%s'", text, want);
}

static void test_control_characters(void **state UNUSED)
{
    expect_cell("{\"id\":\"a\\u001b[31mb\"}", "a?[31mb");
    expect_cell("{\"id\":\"a\\nb\\tc\\u007f\"}", "a?b?c?");
    expect_cell("{\"id\":\"\\u009b2J\\u0080\"}", "?2J?");
    expect_cell("{\"id\":\"\\u202eabc\\u2066\\u200f\\u2028\"}", "?abc???");
    expect_cell("{\"id\":\"\\u00e4\\u20ac\\ud83d\\ude00\"}", "\u00e4\u20ac\U0001f600");
    expect_cell("{\"id\":\"\\u00a0\\u2027\\u202f\\u2065\"}", "\u00a0\u2027\u202f\u2065");
}

static void test_width_counts_characters(void **state UNUSED)
{
    print_list("[{\"id\":\"\\u00e4\\u00f6\",\"size\":1},{\"id\":\"ab\",\"size\":2}]", OUTPUT_TABLE);
    assert_string_equal(
        text, "ID  SIZE  SEALED  N\n\u00e4\u00f6  1     -       -\nab  2     -       -\n");
}

static void test_json_is_ascii(void **state UNUSED)
{
    print_object("{\"id\":\"\\u009b\\u001b\\u007f\\u202e\\u00e4\"}", OUTPUT_JSON);
    for (const char *p = text; *p != '\0'; p++)
        assert_true(*p == '\n' || (*p >= ' ' && *p < 0x7f));
    assert_non_null(strstr(text, "\\u00E4"));
    assert_non_null(strstr(text, "\\u007f"));
    print_list("[]", OUTPUT_JSON);
    assert_string_equal(text, "[]\n");
}

static void test_write_error(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    AUTO_JSON json_t *list = parse("[]");
    FILE *full = fopen("/dev/full", "we");
    assert_non_null(full);
    assert_int_equal(output_list(full, OUTPUT_TABLE, list, columns, ARRAY_SIZE(columns), &err), -1);
    assert_string_equal(err.msg, "write the output: No space left on device");
    (void)fclose(full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_absent_values),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_object),
        cmocka_unit_test(test_control_characters),
        cmocka_unit_test(test_width_counts_characters),
        cmocka_unit_test(test_json_is_ascii),
        cmocka_unit_test(test_write_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

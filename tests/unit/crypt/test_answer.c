/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/unit.h"

#include "crypt/answer.h"

#define MAPPING                                                                           \
    "{\"name\":\"n\",\"uuid\":\"u\",\"dev\":\"254:1\",\"backing\":\"7:0\",\"size\":4096," \
    "\"open\":1,\"read_only\":true,\"discards\":false,\"state\":\"ok\",\"why\":\"\"}"
#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static int read_text(const char *text, int exit_code, json_t **ret, struct error *err)
{
    return answer_read("open", text, strlen(text), exit_code, ret, err);
}

static void test_fields(void **state UNUSED)
{
    AUTO_JSON json_t *reply = NULL;
    AUTO_MAPPING_LIST struct mapping_list list = { .items = NULL };
    struct mapping m;
    char hex[65];

    assert_works(read_text("{\"mapping\":" MAPPING ",\"mappings\":[" MAPPING "],\"mac\":\"" HEX64
                           "\"}",
                           0, &reply, &err));
    assert_works(answer_mapping(reply, &m, &err));
    assert_string_equal(m.name, "n");
    assert_works(answer_mappings(reply, &list, &err));
    assert_int_equal(list.n, 1);
    assert_works(answer_hex(reply, "mac", hex, &err));
    assert_string_equal(hex, HEX64);
    assert_fails(answer_hex(reply, "digest", hex, &err), ERR_INTERNAL,
                 "coffer-crypt's reply has no proper 'digest'");
}

static void test_errors(void **state UNUSED)
{
    static const struct {
        const char *text;
        int exit_code;
        enum error_code code;
        const char *message;
    } rows[] = {
        { "{\"error\":{\"code\":\"ABORTED\",\"message\":\"busy\"}}", 1, ERR_ABORTED, "busy" },
        { "{\"error\":{\"code\":\"ABORTED\",\"message\":\"busy\"}}", 0, ERR_ABORTED, "busy" },
        { "{\"error\":{\"code\":\"NOPE\",\"message\":\"m\"}}", 1, ERR_INTERNAL, "m" },
        { "{\"error\":{\"code\":\"ABORTED\",\"message\":\"\"}}", 1, ERR_INTERNAL,
          "coffer-crypt open failed without saying why" },
        { "{\"error\":{\"code\":\"OK\",\"message\":\"m\"}}", 1, ERR_INTERNAL,
          "coffer-crypt open failed without saying why" },
        { "{\"error\":[]}", 0, ERR_INTERNAL, "coffer-crypt open failed without saying why" },
        { "{}", 7, ERR_INTERNAL, "coffer-crypt open failed without saying why" },
        { "{\"mapp", 0, ERR_INTERNAL,
          "coffer-crypt open, exit code 0: coffer-crypt's reply is not valid JSON: it ends too "
          "early (line 1, column 6)" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        json_t *reply = NULL;

        assert_fails(read_text(rows[i].text, rows[i].exit_code, &reply, &err), rows[i].code,
                     rows[i].message);
        assert_null(reply);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

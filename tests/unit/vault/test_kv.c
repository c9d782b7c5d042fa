/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/cleanup.h"
#include "common/json.h"
#include "vault/kv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const unsigned char context[KV_CONTEXT_BYTES] = { 0xab, 0x01 };

/* What the engine would answer to a read of what was created. */
static json_t *stored(const json_t *create)
{
    json_t *data = json_deep_copy(json_object_get(create, "data"));

    return json_pack("{s:{s:o, s:{s:i}}}", "data", "data", data, "metadata", "version", 1);
}

static void test_round(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    AUTO_SECRET struct secret *key = secret_new(KV_KEY_BYTES, &err), *back = NULL;

    assert_non_null(key);
    assert_int_equal(secret_random(key, KV_KEY_BYTES, &err), 0);
    AUTO_JSON json_t *create = kv_create_body(key, context);
    assert_true(json_integer_value(json_object_get(json_object_get(create, "options"), "cas")) ==
                0);
    assert_true(json_is_integer(json_object_get(json_object_get(create, "options"), "cas")));
    AUTO_JSON json_t *answer = stored(create);
    assert_int_equal(kv_key(answer, context, &back, &err), 0);
    assert_true(secret_equal(key, back));
}

static void expect_created(const char *text, int want)
{
    struct error err = ERROR_INIT;
    AUTO_JSON json_t *answer = NULL;

    assert_int_equal(json_parse(text, strlen(text), "answer", &answer, &err), 0);
    assert_int_equal(kv_created(answer, &err), want);
    assert_int_equal(err.code, want == 0 ? ERR_OK : ERR_UNAVAILABLE);
}

static void test_created(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    expect_created("{\"data\":{\"created_time\":\"x\",\"version\":1}}", 0);
    expect_created("{\"data\":{\"version\":2}}", -1);
    expect_created("{\"data\":{\"version\":\"1\"}}", -1);
    expect_created("{\"data\":null}", -1);
    expect_created("{}", -1);
    assert_int_equal(kv_created(NULL, &err), -1); /* no body */
}

#define SECRET(current, deletion, destroyed)  \
    "{\"data\":{\"current_version\":" current \
    ",\"versions\":{\"1\":{\"deletion_time\":\"" deletion "\",\"destroyed\":" destroyed "}}}}"

static void test_intact(void **state UNUSED)
{
    static const struct row {
        const char *text;
        enum error_code code;
    } rows[] = {
        { SECRET("1", "", "false"), ERR_OK },
        { SECRET("2", "", "false"), ERR_PRECONDITION },
        { SECRET("1", "", "true"), ERR_PRECONDITION },
        { SECRET("1", "2030-01-01T00:00:00Z", "false"), ERR_PRECONDITION },
        { SECRET("\"1\"", "", "false"), ERR_UNAVAILABLE },
        { "{\"data\":{\"current_version\":1}}", ERR_UNAVAILABLE },
        { "{\"data\":{\"current_version\":1,\"versions\":{}}}", ERR_PRECONDITION },
        { "{}", ERR_UNAVAILABLE },
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct error err = ERROR_INIT;
        AUTO_JSON json_t *answer = NULL;
        assert_int_equal(json_parse(rows[i].text, strlen(rows[i].text), "answer", &answer, &err),
                         0);
        assert_int_equal(kv_intact(answer, &err), rows[i].code == ERR_OK ? 0 : -1);
        if (err.code != rows[i].code)
            fail_msg("%s: %s", rows[i].text, error_code_name(err.code));
    }
}

static void test_one_that_goes_by_itself(void **state UNUSED)
{
    const char *text = "{\"data\":{\"version\":1,\"deletion_time\":\"2030-01-01T00:00:00Z\"}}";
    struct error err = ERROR_INIT;
    AUTO_JSON json_t *answer = NULL;

    assert_int_equal(json_parse(text, strlen(text), "answer", &answer, &err), 0);
    assert_int_equal(kv_created(answer, &err), -1);
    assert_int_equal(err.code, ERR_PRECONDITION);
}

static void expect_no_key(const char *text, enum error_code code)
{
    struct error err = ERROR_INIT;
    struct secret *key = NULL;
    AUTO_JSON json_t *answer = NULL;

    assert_int_equal(json_parse(text, strlen(text), "answer", &answer, &err), 0);
    assert_int_equal(kv_key(answer, context, &key, &err), -1);
    assert_null(key);
    if (err.code != code)
        fail_msg("%s: %s", text, error_code_name(err.code));
}

#define CONTEXT_TEXT "ab01000000000000000000000000000000000000000000000000000000000000"
#define KEY_TEXT     "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define ANSWER(key, context) \
    "{\"data\":{\"data\":{\"key\":\"" key "\",\"context\":\"" context "\"}}}"

static void test_refused(void **state UNUSED)
{
    expect_no_key("{}", ERR_UNAVAILABLE);
    expect_no_key("{\"data\":{\"data\":null}}", ERR_UNAVAILABLE); /* destroyed */
    expect_no_key("{\"data\":{\"data\":{}}}", ERR_PRECONDITION);
    expect_no_key("{\"data\":{\"data\":{\"key\":\"" KEY_TEXT "\"}}}", ERR_PRECONDITION);
    expect_no_key(ANSWER(KEY_TEXT, "00"), ERR_PRECONDITION);
    expect_no_key(
        ANSWER(KEY_TEXT, "ac01000000000000000000000000000000000000000000000000000000000000"),
        ERR_PRECONDITION);
    expect_no_key(ANSWER("AAEC", CONTEXT_TEXT), ERR_PRECONDITION);
    expect_no_key(ANSWER("?", CONTEXT_TEXT), ERR_PRECONDITION);
}

static void test_a_key_of_another_size_is_not_stored(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    AUTO_SECRET struct secret *key = secret_new(KV_KEY_BYTES, &err);

    assert_int_equal(secret_random(key, 16, &err), 0);
    assert_null(kv_create_body(key, context));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round),   cmocka_unit_test(test_created),
        cmocka_unit_test(test_intact),  cmocka_unit_test(test_one_that_goes_by_itself),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_a_key_of_another_size_is_not_stored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

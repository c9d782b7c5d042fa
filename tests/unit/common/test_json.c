/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/json.h"

#include "common/wipe.h"
#include "tests/support/nomem.h"
#include "tests/support/unit.h"
#include "tests/support/skip.h"

static json_t *parse(const char *text)
{
    json_t *obj = NULL;

    assert_works(json_parse(text, strlen(text), "x", &obj, &err));
    return obj;
}

static void test_refused(void **state UNUSED)
{
    static const struct {
        const char *text;
        size_t len;
        const char *sentence;
    } rows[] = {
        { "", 0, "x is not valid JSON: it ends too early (line 1, column 0)" },
        { "{\"a\":1,\"a\":2}", 13, "x is not valid JSON: a key comes twice (line 1, column 10)" },
        { "{} {}", 5, "x is not valid JSON: text follows its end (line 1, column 4)" },
        { "{}\0", 3, NULL },
        { "{\"a\":\"\\u0000\"}", 14, "x is not valid JSON: it holds a NUL (line 1, column 13)" },
        { "{\"a\\u0000b\":1}", 14, NULL },
        { "{\"a\":\"\xff\"}", 9, NULL },
        { "{\"a\":99999999999999999999}", 26, NULL },
        { "{'a':1}", 7, NULL },
        { "1", 1, NULL },
        { "{\"a\":1,}", 8, NULL },
        { "{\"secret-word", 13, NULL },
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct error err = ERROR_INIT;
        json_t *obj = NULL;

        assert_int_equal(json_parse(rows[i].text, rows[i].len, "x", &obj, &err), -1);
        assert_null(obj);
        assert_int_equal(err.code, ERR_INVALID);
        assert_null(strstr(err.msg, "secret-word"));
        if (rows[i].sentence != NULL)
            assert_string_equal(err.msg, rows[i].sentence);
    }
}

static void test_depth(void **state UNUSED)
{
    char text[200];
    json_t *v = NULL;

    for (size_t depth = 1; depth <= 40; depth++) {
        struct error err = ERROR_INIT;
        int rc;

        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        rc = json_parse(text, 2 * depth, "x", &v, &err);
        assert_int_equal(rc, depth <= 32 ? 0 : -1);
        if (rc == 0)
            json_decref(v);
        else
            assert_string_equal(err.msg, "x is not valid JSON: nested deeper than 32");
    }
    /* brackets in a text, behind an escaped quote too, are no depth */
    AUTO_JSON json_t *obj = parse("{\"a\":\"\\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"}");

    assert_non_null(obj);
}

static void test_reader(void **state UNUSED)
{
    AUTO_JSON json_t *obj =
        parse("{\"s\":\"text\",\"n\":5,\"b\":true,\"o\":{},\"a\":[1],\"z\":null}");
    struct json_reader r = json_reader_of(obj, "thing");
    char s[5] = "";
    uint64_t n = 0, absent = 3;
    bool b = false;
    double number = 0;

    json_get_string(&r, "s", s, sizeof(s));
    json_get_u64(&r, "n", &n);
    json_get_bool(&r, "b", &b);
    assert_non_null(json_get_object(&r, "o"));
    assert_int_equal(json_array_size(json_get_array(&r, "a")), 1);
    assert_false(json_get_string_opt(&r, "z", s, sizeof(s)));
    assert_false(json_get_u64_opt(&r, "gone", &absent));
    assert_false(json_get_bool_opt(&r, "z", &b));
    assert_false(json_get_number_opt(&r, "gone", &number));
    assert_true(json_get_number_opt(&r, "n", &number));
    assert_true(number == (double)n);
    assert_null(json_get_object_opt(&r, "z"));
    assert_null(json_get_any_opt(&r, "gone"));
    assert_works(json_reader_done(&r, &err));
    assert_string_equal(s, "text");
    assert_int_equal(n, 5);
    assert_true(b);
    assert_int_equal(absent, 3);
}

static void expect_problem(const char *text, void (*read)(struct json_reader *),
                           const char *sentence)
{
    AUTO_JSON json_t *obj = parse(text);
    struct json_reader r = json_reader_of(obj, "thing");

    read(&r);
    assert_fails(json_reader_done(&r, &err), ERR_INVALID, sentence);
}

static void want_string(struct json_reader *r)
{
    char s[4] = "old";

    json_get_string(r, "f", s, sizeof(s));
    assert_string_equal(s, "old");
}

static void want_string_opt(struct json_reader *r)
{
    char s[4];

    assert_false(json_get_string_opt(r, "f", s, sizeof(s)));
}

static void want_u64(struct json_reader *r)
{
    uint64_t v = 7;

    json_get_u64(r, "f", &v);
    assert_int_equal(v, 7);
}

static void want_bool(struct json_reader *r)
{
    bool v;

    json_get_bool(r, "f", &v);
}

static void want_object(struct json_reader *r)
{
    assert_null(json_get_object(r, "f"));
}

static void want_array(struct json_reader *r)
{
    assert_null(json_get_array(r, "f"));
}

static void want_nothing(struct json_reader *r UNUSED)
{
}

static void test_problems(void **state UNUSED)
{
    char key[301], text[400], sentence[400];

    expect_problem("{}", want_string, "thing: field 'f' is missing");
    expect_problem("{\"f\":null}", want_string, "thing: field 'f' must be a text");
    expect_problem("{\"f\":1}", want_string_opt, "thing: field 'f' must be a text");
    expect_problem("{\"f\":\"four\"}", want_string, "thing: field 'f' is longer than 3 bytes");
    expect_problem("{\"f\":\"5\"}", want_u64, "thing: field 'f' must be a number");
    expect_problem("{\"f\":5.0}", want_u64, "thing: field 'f' must be a number");
    expect_problem("{\"f\":true}", want_u64, "thing: field 'f' must be a number");
    expect_problem("{\"f\":-1}", want_u64, "thing: field 'f' must not be negative");
    expect_problem("{\"f\":0}", want_bool, "thing: field 'f' must be true or false");
    expect_problem("{\"f\":[]}", want_object, "thing: field 'f' must be an object");
    expect_problem("{\"f\":{}}", want_array, "thing: field 'f' must be an array");
    expect_problem("{\"g\":1}", want_nothing, "thing: unknown field 'g'");
    expect_problem("{\"f\":1,\"g\":1}", want_bool, "thing: field 'f' must be true or false");
    expect_problem("[]", want_nothing, "thing: it must be an object");
    memset(key, 'k', sizeof(key) - 1);
    key[sizeof(key) - 1] = '\0';
    (void)snprintf(text, sizeof(text), "{\"%s\":1}", key);
    (void)snprintf(sentence, sizeof(sentence), "thing: unknown field '%.64s...'", key);
    expect_problem(text, want_nothing, sentence);
}

static void test_problem_of_a_value(void **state UNUSED)
{
    AUTO_JSON json_t *obj = json_object();
    struct json_reader r = json_reader_of(obj, "x"), none = json_reader_of(obj, "x");
    struct error why = ERROR_INIT, err = ERROR_INIT;

    (void)error_set(&why, ERR_DATA_LOSS, "field 'id' is odd");
    json_problem_error(&r, &why);
    assert_int_equal(json_reader_done(&r, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_string_equal(err.msg, "x: field 'id' is odd");
    (void)error_memory(&why);
    json_problem_error(&none, &why);
    assert_int_equal(json_reader_done(&none, &err), -1);
    assert_true(error_is_memory(&err));
}

static void test_absent_object(void **state UNUSED)
{
    struct json_reader r = json_reader_of(NULL, "thing");
    char s[4];

    json_get_string(&r, "f", s, sizeof(s));
    assert_fails(json_reader_done(&r, &err), ERR_INVALID, "thing: it must be an object");
}

static void test_too_many(void **state UNUSED)
{
    static char keys[50][4];
    AUTO_JSON json_t *obj = parse("{}");
    struct json_reader r = json_reader_of(obj, "thing");

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        (void)snprintf(keys[i], sizeof(keys[i]), "%zu", i);
        assert_null(json_get_any_opt(&r, keys[i]));
    }
    assert_fails(json_reader_done(&r, &err), ERR_INVALID, "thing: too many fields are asked for");
}

/* A failed allocation never makes a text shorter. */
static void test_no_memory(void **state UNUSED)
{
    static const char text[] = "{\"k\":\"0123456789abcdef0123456789abcdef0123456789abcdef\"}";

    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    for (unsigned int n = 1;; n++) {
        AUTO_JSON json_t *obj = NULL;
        struct error err = ERROR_INIT;
        int rc;

        nomem_arm(n);
        rc = json_parse(text, sizeof(text) - 1, "x", &obj, &err);
        if (!nomem_disarm())
            break;
        assert_int_equal(rc, -1);
        assert_string_equal(err.msg, "out of memory");
        assert_int_equal(err.code, ERR_EXHAUSTED);
    }
}

static void test_memory_is_wiped(void **state UNUSED)
{
    json_malloc_t get;
    json_free_t give_back;

    json_get_alloc_funcs(&get, &give_back);
    assert_ptr_equal(give_back, wipe_free);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_reader),
        cmocka_unit_test(test_problems),
        cmocka_unit_test(test_problem_of_a_value),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_absent_object),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_memory_is_wiped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

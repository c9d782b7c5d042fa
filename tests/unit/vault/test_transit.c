/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/cleanup.h"
#include "common/json.h"
#include "vault/transit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void expect_text(json_t *value, const char *want)
{
    AUTO_JSON json_t *mine = value;
    AUTO_FREE char *text = json_text(mine, JSON_COMPACT | JSON_SORT_KEYS);

    assert_non_null(text);
    assert_string_equal(text, want);
}

static void test_bodies(void **state UNUSED)
{
    static const unsigned char context[4] = { 0xff, 0, 1, 2 };
    unsigned char long_context[65] = { 0 };

    expect_text(transit_create_body(), "{\"derived\":true,\"type\":\"aes256-gcm96\"}");
    expect_text(transit_datakey_body(context, 4), "{\"context\":\"/wABAg==\"}");
    expect_text(transit_datakey_body(NULL, 0), "{}");
    expect_text(transit_decrypt_body("vault:v1:x", context, 4),
                "{\"ciphertext\":\"vault:v1:x\",\"context\":\"/wABAg==\"}");
    assert_null(transit_datakey_body(long_context, sizeof(long_context)));
}

static void test_rotation_bodies(void **state UNUSED)
{
    static const unsigned char context[4] = { 0xff, 0, 1, 2 };

    expect_text(transit_rewrap_body("vault:v1:x", context, 4),
                "{\"ciphertext\":\"vault:v1:x\",\"context\":\"/wABAg==\"}");
    expect_text(transit_minimum_body(3),
                "{\"min_decryption_version\":3,\"min_encryption_version\":3}");
    expect_text(transit_trim_body(3), "{\"min_available_version\":3}");
}

static void test_key(void **state UNUSED)
{
    static const char *const bad[] = {
        "{}",
        "{\"latest_version\":\"3\"}",
        "{\"latest_version\":-1}",
        "{\"latest_version\":2,\"min_decryption_version\":3}",
        "{\"latest_version\":2,\"min_available_version\":3}",
    };
    struct transit_key key = { .latest = 9 };
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        AUTO_JSON json_t *data = json_own(bad[i]);
        assert_non_null(data);
        if (transit_key_read(data, &key, &err) == 0)
            fail_msg("'%s' is a key", bad[i]);
        assert_int_equal(err.code, ERR_UNAVAILABLE);
    }
    assert_true(key.latest == 9);
    AUTO_JSON json_t *data = json_own("{\"latest_version\":3,\"min_decryption_version\":2,"
                                      "\"min_encryption_version\":0,\"min_available_version\":1,"
                                      "\"keys\":{\"2\":100,\"3\":200}}");
    assert_int_equal(transit_key_read(data, &key, &err), 0);
    assert_true(key.latest == 3 && key.min_decryption == 2 && key.min_encryption == 0 &&
                key.min_available == 1);
    assert_true(transit_key_made(data, 3) == 200 && transit_key_made(data, 2) == 100);
    assert_true(transit_key_made(data, 1) == 0);
}

static void test_version(void **state UNUSED)
{
    static const char *const bad[] = { "",
                                       "vault:v",
                                       "vault:v:x",
                                       "vault:vx:abc",
                                       "vault:v1",
                                       "vault:v1:",
                                       "Vault:v1:x",
                                       "vault:v-1:x",
                                       "vault:v99999999999999999999:x",
                                       "kv:v1:x" };
    uint64_t v = 7;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (transit_ciphertext_version(bad[i], &v) == 0)
            fail_msg("'%s' is a ciphertext", bad[i]);
    }
    assert_true(v == 7);
    assert_int_equal(transit_ciphertext_version("vault:v12:AAAA", &v), 0);
    assert_true(v == 12);
}

static json_t *parse(const char *text)
{
    struct error err = ERROR_INIT;
    json_t *value = NULL;

    assert_int_equal(json_parse(text, strlen(text), "answer", &value, &err), 0);
    return value;
}

static void test_ciphertext(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    const char *text = NULL;
    AUTO_JSON json_t *good =
        parse("{\"data\":{\"ciphertext\":\"vault:v1:abc\",\"key_version\":1}}");

    assert_int_equal(transit_ciphertext(good, &text, &err), 0);
    assert_string_equal(text, "vault:v1:abc");
    static const char *const bad[] = { "{}", "{\"data\":{}}", "{\"data\":{\"ciphertext\":1}}",
                                       "{\"data\":[]}", "{\"ciphertext\":\"vault:v1:abc\"}" };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        AUTO_JSON json_t *answer = parse(bad[i]);
        assert_int_equal(transit_ciphertext(answer, &text, &err), -1);
        assert_int_equal(err.code, ERR_UNAVAILABLE);
    }
    assert_int_equal(transit_ciphertext(NULL, &text, &err), -1); /* 204 */
}

static void expect_no_key(const char *answer, enum error_code code)
{
    struct error err = ERROR_INIT;
    struct secret *key = NULL;
    AUTO_JSON json_t *body = parse(answer);

    assert_int_equal(transit_plaintext(body, &key, &err), -1);
    assert_null(key);
    assert_int_equal(err.code, code);
}

static void test_plaintext(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    AUTO_SECRET struct secret *key = NULL;
    AUTO_JSON json_t *good =
        parse("{\"data\":{\"plaintext\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"}}");

    assert_int_equal(transit_plaintext(good, &key, &err), 0);
    assert_int_equal(secret_len(key), 32);
    for (unsigned i = 0; i < 32; i++)
        assert_int_equal(secret_data(key)[i], i);
    expect_no_key("{}", ERR_UNAVAILABLE);
    expect_no_key("{\"data\":{\"plaintext\":null}}", ERR_UNAVAILABLE);
    expect_no_key("{\"data\":{\"plaintext\":\"\"}}", ERR_PRECONDITION);
    expect_no_key("{\"data\":{\"plaintext\":\"AAEC\"}}", ERR_PRECONDITION);
    expect_no_key("{\"data\":{\"plaintext\":\"not base64!\"}}", ERR_PRECONDITION);
    /* 33 bytes */
    expect_no_key("{\"data\":{\"plaintext\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g\"}}",
                  ERR_PRECONDITION);
}

static void test_sessions(void **state UNUSED)
{
    static const unsigned char sealed[TRANSIT_SEALED_MAX + 1] = { 0xff, 0, 1, 2 };
    struct error err = ERROR_INIT;
    AUTO_SECRET struct secret *plain = NULL;
    AUTO_JSON json_t *good = parse("{\"data\":{\"plaintext\":\"AAEC\"}}");
    AUTO_JSON json_t *none = parse("{\"data\":{}}");

    expect_text(transit_create_rsa_body(), "{\"allow_plaintext_backup\":false,\"exportable\":false,"
                                           "\"type\":\"rsa-3072\"}");
    expect_text(transit_open_body(sealed, 4, 12), "{\"ciphertext\":\"vault:v12:/wABAg==\"}");
    expect_text(transit_open_body(sealed, 0, UINT64_MAX),
                "{\"ciphertext\":\"vault:v18446744073709551615:\"}");
    AUTO_JSON json_t *longest = transit_open_body(sealed, TRANSIT_SEALED_MAX, UINT64_MAX);
    assert_non_null(longest);
    assert_null(transit_open_body(sealed, TRANSIT_SEALED_MAX + 1, 1));
    assert_int_equal(transit_opened(good, &plain, &err), 0);
    assert_int_equal(secret_len(plain), 3);
    assert_memory_equal(secret_data(plain), "\0\1\2", 3);
    assert_int_equal(transit_opened(none, &plain, &err), -1);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
}

#define RSA_KEY(more)                                                         \
    "{\"data\":{\"type\":\"rsa-3072\",\"latest_version\":2,\"keys\":{\"1\":{" \
    "\"public_key\":\"old\"},\"2\":{\"public_key\":\"pem\"}}" more "}}"

static void test_public_key(void **state UNUSED)
{
    static const struct {
        const char *answer;
        enum error_code code;
    } bad[] = {
        { "{}", ERR_UNAVAILABLE },
        { "{\"data\":{\"type\":\"rsa-3072\",\"latest_version\":1,\"keys\":{\"1\":5}}}",
          ERR_UNAVAILABLE },
        { "{\"data\":{\"type\":\"aes256-gcm96\",\"latest_version\":1,\"keys\":{\"1\":5}}}",
          ERR_PRECONDITION },
        { RSA_KEY(",\"exportable\":true"), ERR_PRECONDITION },
        { RSA_KEY(",\"allow_plaintext_backup\":true"), ERR_PRECONDITION },
    };
    AUTO_JSON json_t *good = parse(RSA_KEY(",\"exportable\":false"));
    struct error err = ERROR_INIT;
    const char *pem = "before";
    uint64_t version = 9;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        AUTO_JSON json_t *answer = parse(bad[i].answer);
        assert_int_equal(transit_public_key(answer, &version, &pem, &err), -1);
        assert_int_equal(err.code, bad[i].code);
        err = (struct error)ERROR_INIT;
    }
    assert_string_equal(pem, "before");
    assert_int_equal(transit_public_key(good, &version, &pem, &err), 0);
    assert_string_equal(pem, "pem");
    assert_true(version == 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies),          cmocka_unit_test(test_version),
        cmocka_unit_test(test_rotation_bodies), cmocka_unit_test(test_key),
        cmocka_unit_test(test_ciphertext),      cmocka_unit_test(test_plaintext),
        cmocka_unit_test(test_sessions),        cmocka_unit_test(test_public_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/b64.h"

#include "tests/support/unit.h"

/* RFC 4648 §10 */
static const struct {
    const char *plain, *coded;
} vectors[] = {
    { "", "" },
    { "f", "Zg==" },
    { "fo", "Zm8=" },
    { "foo", "Zm9v" },
    { "foob", "Zm9vYg==" },
    { "fooba", "Zm9vYmE=" },
    { "foobar", "Zm9vYmFy" },
};

static void test_vectors(void **state UNUSED)
{
    char text[16];
    unsigned char back[16];

    for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
        size_t len = strlen(vectors[i].plain), got = 99;

        b64_encode(text, vectors[i].plain, len);
        assert_string_equal(text, vectors[i].coded);
        assert_int_equal(strlen(text), B64_LEN(len));
        assert_int_equal(b64_decode(back, len, text, strlen(text), &got), 0);
        assert_int_equal(got, len);
        assert_memory_equal(back, vectors[i].plain, len);
        if (len > 0)
            assert_int_equal(b64_decode(back, len - 1, text, strlen(text), &got), -1);
    }
}

static void test_all_bytes(void **state UNUSED)
{
    unsigned char all[256], back[256];
    char text[B64_LEN(256) + 1];
    size_t got = 0;

    for (unsigned int i = 0; i < 256; i++)
        all[i] = (unsigned char)(i * 167 + 13);
    for (size_t len = 0; len <= 256; len++) {
        b64_encode(text, all, len);
        assert_int_equal(strlen(text), B64_LEN(len));
        assert_int_equal(b64_decode(back, sizeof(back), text, strlen(text), &got), 0);
        assert_int_equal(got, len);
        assert_memory_equal(back, all, len);
        got = 999;
        assert_int_equal(b64_check(text, strlen(text), &got), 0);
        assert_int_equal(got, len);
    }
}

static void test_alphabet(void **state UNUSED)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char back[3];
    size_t got = 0;

    for (unsigned int c = 0; c < 256; c++) {
        char text[4] = { 'A', 'A', 'A', (char)c };
        const char *at = c != 0 ? strchr(alphabet, (int)c) : NULL;
        int rc = b64_decode(back, sizeof(back), text, 4, &got);

        if (c == '=') {
            assert_int_equal(rc, 0); /* "AAA=": two bytes */
            assert_int_equal(got, 2);
        } else if (at != NULL) {
            assert_int_equal(rc, 0);
            assert_int_equal(back[2], at - alphabet);
        } else {
            assert_int_equal(rc, -1);
        }
    }
}

static void test_malformed(void **state UNUSED)
{
    static const char *const bad[] = { "A",        "AA",    "AAA",   "=AAA",   "A=AA",
                                       "A===",     "====",  "AA=A",  "AB==",   "AAB=",
                                       "AA==AAAA", "AA AA", "AAA\n", "Zg==\n", "-_-_" };
    unsigned char back[8] = "kept";
    size_t got = 99;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(b64_decode(back, sizeof(back), bad[i], strlen(bad[i]), &got), -1);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(b64_check(bad[i], strlen(bad[i]), &got), -1);
    assert_int_equal(got, 99);
    assert_string_equal((char *)back, "kept");
}

static void test_hex(void **state UNUSED)
{
    static const char *const bad[] = { "", "0", "000", "00112", "001122", "0g11", "00A1", "00 1" };
    unsigned char raw[256], back[256];
    char text[513];

    for (unsigned int i = 0; i < 256; i++)
        raw[i] = (unsigned char)i;
    hex_encode(text, raw, 256);
    assert_int_equal(strlen(text), 512);
    assert_memory_equal(text, "000102030405060708090a0b0c0d0e0f10", 34);
    assert_memory_equal(text + 508, "feff", 4);
    assert_int_equal(hex_decode(back, text, 256), 0);
    assert_memory_equal(back, raw, 256);
    memcpy(back, "kept", 5);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(hex_decode(back, bad[i], 2), -1);
    assert_string_equal((char *)back, "kept");
    assert_int_equal(hex_decode(back, "", 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),  cmocka_unit_test(test_all_bytes),
        cmocka_unit_test(test_alphabet), cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_hex),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

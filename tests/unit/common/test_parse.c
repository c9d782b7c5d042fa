/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/parse.h"

#include "tests/support/unit.h"

#include <sys/sysmacros.h>

static void test_u64(void **state UNUSED)
{
    static const char *const bad[] = { "",
                                       " 1",
                                       "1 ",
                                       "+1",
                                       "-1",
                                       "0x10",
                                       "1.0",
                                       "1e3",
                                       "a",
                                       "18446744073709551616",
                                       "99999999999999999999" };
    uint64_t v = 7;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(parse_u64(bad[i], &v), -1);
    assert_int_equal(v, 7);
    assert_int_equal(parse_u64("0", &v), 0);
    assert_int_equal(v, 0);
    assert_int_equal(parse_u64("007", &v), 0);
    assert_int_equal(v, 7);
    assert_int_equal(parse_u64("18446744073709551615", &v), 0);
    assert_true(v == UINT64_MAX);
}

static void test_bool(void **state UNUSED)
{
    static const char *const bad[] = { "", "True", "yes", "1", "true ", "falsee" };
    bool v = true;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(parse_bool(bad[i], &v), -1);
    assert_true(v);
    assert_int_equal(parse_bool("false", &v), 0);
    assert_false(v);
    assert_int_equal(parse_bool("true", &v), 0);
    assert_true(v);
}

static void test_size(void **state UNUSED)
{
    static const struct {
        const char *text;
        uint64_t value;
    } good[] = {
        { "0", 0 },
        { "10", 10 },
        { "1Ki", 1024 },
        { "3Mi", 3u << 20 },
        { "2Gi", 2ull << 30 },
        { "4Ti", 4ull << 40 },
        { "16777215Ti", 16777215ull << 40 },
        { "18446744073709551615", UINT64_MAX },
    };
    static const char *const bad[] = { "",
                                       "Ki",
                                       "1k",
                                       "1K",
                                       "1 Ki",
                                       "1KiB",
                                       "1Pi",
                                       "-1Ki",
                                       "1.5Gi",
                                       "16777216Ti",
                                       "18446744073709551615Ki" };
    uint64_t v = 7;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(parse_size(bad[i], &v), -1);
    assert_int_equal(v, 7);
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_int_equal(parse_size(good[i].text, &v), 0);
        assert_true(v == good[i].value);
    }
}

static void test_dev(void **state UNUSED)
{
    static const char *const bad[] = { "",     "7",    ":",     "7:",    ":0",     "7:0 ",
                                       "7 :0", "-7:0", "7:0x0", "7:0:0", "4096:0", "0:1048576" };
    dev_t d = makedev(7, 7);

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(parse_dev(bad[i], &d), -1);
    assert_true(d == makedev(7, 7));
    assert_int_equal(parse_dev("0:0", &d), 0);
    assert_true(d == 0);
    assert_int_equal(parse_dev("4095:1048575", &d), 0);
    assert_true(d == makedev(4095, 1048575));
}

/* The reference: decode by the bit layout, then refuse what is too long, a surrogate or out of
 * range. */
static bool slow_utf8(const unsigned char *p, size_t len)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };

    while (len > 0) {
        size_t n = *p < 0x80         ? 1
                   : (*p >> 5) == 6  ? 2
                   : (*p >> 4) == 14 ? 3
                   : (*p >> 3) == 30 ? 4
                                     : 0;
        uint32_t c;

        if (n == 0 || n > len)
            return false;
        c = n == 1 ? *p : *p & (0x7fu >> n);
        for (size_t i = 1; i < n; i++) {
            if (p[i] >> 6 != 2)
                return false;
            c = c << 6 | (p[i] & 0x3fu);
        }
        if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
            return false;
        p += n;
        len -= n;
    }
    return true;
}

static void test_utf8(void **state UNUSED)
{
    static const unsigned char seconds[] = { 0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90,
                                             0x9f, 0xa0, 0xbf, 0xc0, 0xf0, 0xff };
    unsigned char t[4];

    for (unsigned int a = 0; a < 256; a++)
        for (size_t b = 0; b < sizeof(seconds); b++)
            for (size_t c = 0; c < sizeof(seconds); c++)
                for (size_t d = 0; d < sizeof(seconds); d++)
                    for (size_t len = 0; len <= 4; len++) {
                        t[0] = (unsigned char)a;
                        t[1] = seconds[b];
                        t[2] = seconds[c];
                        t[3] = seconds[d];
                        if (utf8_valid((const char *)t, len) != slow_utf8(t, len))
                            fail_msg("%02x %02x %02x %02x, %zu bytes", t[0], t[1], t[2], t[3], len);
                    }
    assert_int_equal(utf8_char_len("\xe2\x82\xac!", 4), 3);
    assert_int_equal(utf8_char_len("\xe2\x82", 2), 0);
    assert_int_equal(utf8_char_len("a", 1), 1);
}

static void test_utf8_unsafe(void **state UNUSED)
{
    static const struct {
        const char *text;
        size_t len;
    } cases[] = {
        { "a", 0 },
        { " ", 0 },
        { "\x1b", 1 },
        { "\n", 1 },
        { "\x7f", 1 },
        { "\xc2\x80", 2 },
        { "\xc2\x9f", 2 },
        { "\xc2\xa0", 0 },
        { "\xe2\x80\x8d", 0 },
        { "\xe2\x80\x8e", 3 },
        { "\xe2\x80\x8f", 3 },
        { "\xe2\x80\x90", 0 },
        { "\xe2\x80\xa7", 0 },
        { "\xe2\x80\xa8", 3 },
        { "\xe2\x80\xae", 3 },
        { "\xe2\x80\xaf", 0 },
        { "\xe2\x81\xa5", 0 },
        { "\xe2\x81\xa6", 3 },
        { "\xe2\x81\xa9", 3 },
        { "\xe2\x81\xaa", 0 },
        { "\xe2\x80", 0 },
        { "\xc2", 0 },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(utf8_unsafe_len(cases[i].text, strlen(cases[i].text)), cases[i].len);
}

static void test_hex_lower(void **state UNUSED)
{
    assert_true(hex_lower_valid("0af9", 4));
    assert_true(hex_lower_valid("", 0));
    assert_false(hex_lower_valid("0af9", 3));
    assert_false(hex_lower_valid("0af", 4));
    assert_false(hex_lower_valid("0aF9", 4));
    assert_false(hex_lower_valid("0ag9", 4));
}

static void test_uuid(void **state UNUSED)
{
    static const char *const bad[] = {
        "",
        "123e4567-e89b-42d3-a456-42661417400",
        "123e4567-e89b-42d3-a456-4266141740000",
        "123E4567-e89b-42d3-a456-426614174000",
        "123e4567e89b-42d3-a456-4266-14174000",
        "123e4567-e89b-42d3-a456-42661417400g",
    };
    char one[37], two[37];

    assert_true(uuid_valid("123e4567-e89b-42d3-a456-426614174000"));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(uuid_valid(bad[i]));
    for (int i = 0; i < 100; i++) {
        assert_int_equal(uuid_random(one), 0);
        assert_true(uuid_valid(one));
        assert_int_equal(one[14], '4');
        assert_non_null(strchr("89ab", one[19]));
        assert_int_equal(uuid_random(two), 0);
        assert_string_not_equal(one, two);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_u64),       cmocka_unit_test(test_bool),
        cmocka_unit_test(test_size),      cmocka_unit_test(test_dev),
        cmocka_unit_test(test_utf8),      cmocka_unit_test(test_utf8_unsafe),
        cmocka_unit_test(test_hex_lower), cmocka_unit_test(test_uuid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

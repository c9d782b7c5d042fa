/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small parsers of texts, each against its own printing or a second way to say the same.
 *
 * covers: common/parse.c common/b64.c
 * but: uuid_random random_bytes (make a text, they read none)
 */
#include "tests/fuzz/target.h"

#include "common/b64.h"
#include "common/cleanup.h"

#include <sys/sysmacros.h>

static void check_numbers(const char *text)
{
    uint64_t n = 7, size = 7;
    char again[32];
    bool yes = false;

    if (parse_u64(text, &n) == 0) {
        (void)snprintf(again, sizeof(again), "%llu", (unsigned long long)n);
        must(strcmp(text + strspn(text, "0"), n == 0 ? "" : again) == 0);
        must(parse_size(text, &size) == 0 && size == n);
    } else {
        must(n == 7);
    }
    if (parse_size(text, &size) < 0)
        must(size == 7);
    must((parse_bool(text, &yes) == 0) ==
         (strcmp(text, "true") == 0 || strcmp(text, "false") == 0));
}

static void check_dev(const char *text)
{
    unsigned high = 0, low = 0;
    dev_t dev = 0;
    char again[32];
    const size_t zeros = strspn(text, "0");

    if (parse_dev(text, &dev) < 0) {
        must(dev == 0);
        return;
    }
    must(sscanf(text, "%u:%u", &high, &low) == 2 && major(dev) == high && minor(dev) == low);
    (void)snprintf(again, sizeof(again), "%u:%u", major(dev), minor(dev));
    must(strlen(again) <= strlen(text) && (zeros > 0 || text[0] == again[0]));
}

/* What steers a terminal, or starts a line, by the value of each character: control characters of
 * ASCII and of Latin-1, marks and overrides of direction, the separators of lines. */
static void check_unsafe(const char *text, size_t len)
{
    while (len > 0) {
        const unsigned char *p = (const unsigned char *)text;
        const size_t n = utf8_char_len(text, len);
        const uint32_t value = n == 2   ? (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu)
                               : n == 3 ? (p[0] & 0xfu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu)
                               : n == 4 ? 0x10000
                                        : p[0];
        const bool unsafe = value < 0x20 || (value >= 0x7f && value < 0xa0) || value == 0x200e ||
                            value == 0x200f || (value >= 0x2028 && value <= 0x202e) ||
                            (value >= 0x2066 && value <= 0x2069);
        if (n == 0)
            return;
        must(utf8_unsafe_len(text, len) == (unsafe ? n : 0));
        text += n;
        len -= n;
    }
}

/* RFC 3629 by the value of each character instead of by its bytes. */
static bool utf8_by_value(const unsigned char *p, size_t len)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };

    while (len > 0) {
        size_t n = *p < 0x80   ? 1
                   : *p < 0xc0 ? 0
                   : *p < 0xe0 ? 2
                   : *p < 0xf0 ? 3
                   : *p < 0xf8 ? 4
                               : 0;
        uint32_t value = n == 1 ? *p : *p & (0x7fu >> n);
        if (n == 0 || n > len)
            return false;
        for (size_t i = 1; i < n; i++) {
            if (p[i] >> 6 != 2)
                return false;
            value = value << 6 | (p[i] & 0x3f);
        }
        if (value < least[n] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
            return false;
        p += n;
        len -= n;
    }
    return true;
}

static void check_b64(const char *text, const uint8_t *data, size_t size)
{
    AUTO_FREE unsigned char *bytes = malloc(size + 1);
    AUTO_FREE char *again = malloc(B64_LEN(size) + 1);
    size_t len = 0;

    must(bytes != NULL && again != NULL);
    if (b64_decode(bytes, size, text, strlen(text), &len) == 0) {
        b64_encode(again, bytes, len);
        must(strcmp(again, text) == 0);
    }
    b64_encode(again, data, size);
    must(b64_decode(bytes, size, again, strlen(again), &len) == 0 && len == size);
    must(size == 0 || memcmp(bytes, data, size) == 0);
}

static void check_hex(const char *text, const uint8_t *data, size_t size)
{
    AUTO_FREE unsigned char *bytes = malloc(size + 1);
    AUTO_FREE char *again = malloc(2 * size + 1);
    size_t len = strlen(text) / 2;

    must(bytes != NULL && again != NULL);
    if (hex_decode(bytes, text, len) == 0) {
        hex_encode(again, bytes, len);
        must(strcmp(again, text) == 0 && hex_lower_valid(text, 2 * len));
    }
    hex_encode(again, data, size);
    must(hex_decode(bytes, again, size) == 0 && memcmp(bytes, data, size) == 0);
    must(!uuid_valid(text) || strlen(text) == 36);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE char *text = strndup((const char *)data, size);

    must(text != NULL);
    check_numbers(text);
    check_dev(text);
    check_unsafe((const char *)data, size);
    must(utf8_valid((const char *)data, size) == utf8_by_value(data, size));
    check_b64(text, data, size);
    check_hex(text, data, size);
    return 0;
}

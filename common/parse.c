/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/parse.h"

#include "common/b64.h"

#include <errno.h>
#include <sys/random.h>
#include <sys/sysmacros.h>

#define MAJOR_MAX 0xfffu
#define MINOR_MAX 0xfffffu

static const struct {
    const char *suffix;
    unsigned int shift;
} size_units[] = { { "", 0 }, { "Ki", 10 }, { "Mi", 20 }, { "Gi", 30 }, { "Ti", 40 } };

/* The digits at the start of text; NULL when there is none or the number doesn't fit. */
static const char *digits(const char *text, uint64_t *ret)
{
    uint64_t value = 0;
    const char *p = text;

    for (; *p >= '0' && *p <= '9'; p++) {
        uint64_t digit = (uint64_t)(*p - '0');

        if (value > (UINT64_MAX - digit) / 10)
            return NULL;
        value = value * 10 + digit;
    }
    if (p == text)
        return NULL;
    *ret = value;
    return p;
}

int parse_u64(const char *text, uint64_t *ret)
{
    uint64_t value = 0;
    const char *end = digits(text, &value);

    if (end == NULL || *end != '\0')
        return -1;
    *ret = value;
    return 0;
}

int parse_bool(const char *text, bool *ret)
{
    bool yes = strcmp(text, "true") == 0;

    if (!yes && strcmp(text, "false") != 0)
        return -1;
    *ret = yes;
    return 0;
}

int parse_size(const char *text, uint64_t *ret)
{
    uint64_t value = 0;
    const char *end = digits(text, &value);

    if (end == NULL)
        return -1;
    for (size_t i = 0; i < ARRAY_SIZE(size_units); i++) {
        unsigned int shift = size_units[i].shift;

        if (strcmp(end, size_units[i].suffix) != 0)
            continue;
        if (value > UINT64_MAX >> shift)
            return -1;
        *ret = value << shift;
        return 0;
    }
    return -1;
}

int parse_dev(const char *text, dev_t *ret)
{
    uint64_t major_no = 0, minor_no = 0;
    const char *colon = digits(text, &major_no);
    const char *end = colon != NULL && *colon == ':' ? digits(colon + 1, &minor_no) : NULL;

    if (end == NULL || *end != '\0' || major_no > MAJOR_MAX || minor_no > MINOR_MAX)
        return -1;
    *ret = makedev((unsigned)major_no, (unsigned)minor_no);
    return 0;
}

/* Bounds of the second byte: RFC 3629 §4. */
size_t utf8_char_len(const char *text, size_t left)
{
    const unsigned char *p = (const unsigned char *)text;
    static const struct {
        unsigned char first_min, first_max, second_min, second_max, len;
    } forms[] = {
        { 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
        { 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 },
        { 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
    };

    if (p[0] < 0x80)
        return 1;
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        size_t len = forms[i].len;

        if (p[0] < forms[i].first_min || p[0] > forms[i].first_max)
            continue;
        if (len > left || p[1] < forms[i].second_min || p[1] > forms[i].second_max)
            return 0;
        for (size_t k = 2; k < len; k++)
            if ((p[k] & 0xc0) != 0x80)
                return 0;
        return len;
    }
    return 0;
}

/* U+200E, 200F, 2028 to 202E, 2066 to 2069 */
static bool steers(const unsigned char *p)
{
    return (p[1] == 0x80 && ((p[2] >= 0x8e && p[2] <= 0x8f) || (p[2] >= 0xa8 && p[2] <= 0xae))) ||
           (p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9);
}

size_t utf8_unsafe_len(const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text;

    if (p[0] < 0x20 || p[0] == 0x7f)
        return 1;
    if (len >= 2 && p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
        return 2;
    return len >= 3 && p[0] == 0xe2 && steers(p) ? 3 : 0;
}

bool utf8_valid(const char *text, size_t len)
{
    while (len > 0) {
        size_t n = utf8_char_len(text, len);

        if (n == 0)
            return false;
        text += n;
        len -= n;
    }
    return true;
}

void utf8_make_plain(char *text)
{
    size_t left = strlen(text);

    while (left > 0) {
        size_t n = utf8_char_len(text, left), unsafe = utf8_unsafe_len(text, left);

        if (n == 0)
            n = unsafe = 1;
        memset(text, '?', unsafe);
        text += n;
        left -= n;
    }
}

static bool hex_digit(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

bool hex_lower_valid(const char *text, size_t n_digits)
{
    for (size_t i = 0; i < n_digits; i++)
        if (!hex_digit(text[i])) /* stops at a NUL too */
            return false;
    return text[n_digits] == '\0';
}

bool uuid_valid(const char *text)
{
    for (size_t i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (dash ? text[i] != '-' : !hex_digit(text[i]))
            return false;
    }
    return text[36] == '\0';
}

static int random_bytes(unsigned char *dst, size_t len)
{
    ssize_t n;

    do
        n = getrandom(dst, len, 0);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)len ? 0 : -1; /* up to 256 bytes come whole */
}

int uuid_random(char ret[37])
{
    unsigned char raw[16];
    char hex[33];

    if (random_bytes(raw, sizeof(raw)) < 0)
        return -1;
    raw[6] = (unsigned char)((raw[6] & 0x0f) | 0x40); /* version 4 */
    raw[8] = (unsigned char)((raw[8] & 0x3f) | 0x80); /* RFC 9562 variant */
    hex_encode(hex, raw, sizeof(raw));
    (void)snprintf(ret, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16,
                   hex + 20);
    return 0;
}

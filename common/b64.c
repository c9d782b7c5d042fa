/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/b64.h"

/*
 * Everything works on masks: `in_range` is all ones when lo <= c <= hi, else 0. The data pick
 * neither a branch nor an address, so neither timing nor cache says which character it was.
 */
static unsigned int in_range(unsigned int c, unsigned int lo, unsigned int hi)
{
    /* Bit 31 is set in (c - lo) when c < lo, in (hi - c) when c > hi; all values are small. */
    return (((c - lo) | (hi - c)) >> 31) - 1u;
}

static char b64_char(unsigned int v)
{
    unsigned int c = 0;

    c |= in_range(v, 0, 25) & (v + 'A');
    c |= in_range(v, 26, 51) & (v - 26 + 'a');
    c |= in_range(v, 52, 61) & (v - 52 + '0');
    c |= in_range(v, 62, 62) & '+';
    c |= in_range(v, 63, 63) & '/';
    return (char)c;
}

/* `base` + (c - lo) when c is in the range, which is then marked in *known; else 0. */
static unsigned int pick(unsigned int c, unsigned int lo, unsigned int hi, unsigned int base,
                         unsigned int *known)
{
    unsigned int m = in_range(c, lo, hi);

    *known |= m;
    return m & (c - lo + base);
}

/* 0..63; *bad becomes non-zero when c is none of the alphabet. */
static unsigned int b64_value(char ch, unsigned int *bad)
{
    unsigned int c = (unsigned char)ch, known = 0, v = 0;

    v |= pick(c, 'A', 'Z', 0, &known);
    v |= pick(c, 'a', 'z', 26, &known);
    v |= pick(c, '0', '9', 52, &known);
    v |= pick(c, '+', '+', 62, &known);
    v |= pick(c, '/', '/', 63, &known);
    *bad |= ~known;
    return v;
}

void b64_encode(char *dst, const void *src, size_t len)
{
    const unsigned char *p = src;

    for (; len > 0; dst += 4) {
        size_t n = len < 3 ? len : 3;
        unsigned int v = (unsigned int)p[0] << 16;

        v |= n > 1 ? (unsigned int)p[1] << 8 : 0;
        v |= n > 2 ? (unsigned int)p[2] : 0;
        dst[0] = b64_char(v >> 18 & 63);
        dst[1] = b64_char(v >> 12 & 63);
        dst[2] = '=';
        dst[3] = '=';
        if (n > 1)
            dst[2] = b64_char(v >> 6 & 63);
        if (n > 2)
            dst[3] = b64_char(v & 63);
        p += n;
        len -= n;
    }
    *dst = '\0';
}

/* One group of four of which `chars` (2..4) are no padding; three bytes in one number. */
static unsigned int b64_group(const char *src, size_t chars, unsigned int *bad)
{
    unsigned int v = 0;

    for (size_t k = 0; k < 4; k++)
        v = v << 6 | (k < chars ? b64_value(src[k], bad) : 0);
    if (chars == 2)
        *bad |= v & 0xffff; /* bits that no byte takes must be zero */
    if (chars == 3)
        *bad |= v & 0xff;
    return v;
}

/* How many characters of the group at `at` are no padding, of which the last one has `pad`. */
static size_t group_chars(size_t at, size_t src_len, size_t pad)
{
    return at + 4 == src_len ? 4 - pad : 4;
}

int b64_check(const char *src, size_t src_len, size_t *ret_len)
{
    unsigned int bad = 0;
    size_t pad = 0;

    if (src_len % 4 != 0)
        return -1;
    if (src_len > 0 && src[src_len - 1] == '=')
        pad = src[src_len - 2] == '=' ? 2 : 1;
    for (size_t i = 0; i < src_len; i += 4)
        (void)b64_group(src + i, group_chars(i, src_len, pad), &bad);
    if (bad != 0)
        return -1;
    *ret_len = src_len / 4 * 3 - pad;
    return 0;
}

int b64_decode(void *dst, size_t size, const char *src, size_t src_len, size_t *ret_len)
{
    unsigned char *out = dst;
    unsigned int bad = 0;
    size_t len;

    if (b64_check(src, src_len, &len) < 0 || len > size)
        return -1;
    for (size_t i = 0, o = 0; i < src_len; i += 4) {
        size_t pad = src_len / 4 * 3 - len;
        unsigned int v = b64_group(src + i, group_chars(i, src_len, pad), &bad);

        for (unsigned int shift = 16; o < len && shift <= 16; shift -= 8)
            out[o++] = (unsigned char)(v >> shift);
    }
    *ret_len = len;
    return 0;
}

static char hex_char(unsigned int v)
{
    return (char)((in_range(v, 0, 9) & (v + '0')) | (in_range(v, 10, 15) & (v - 10 + 'a')));
}

void hex_encode(char *dst, const void *src, size_t len)
{
    const unsigned char *p = src;

    for (size_t i = 0; i < len; i++) {
        *dst++ = hex_char(p[i] >> 4);
        *dst++ = hex_char(p[i] & 15);
    }
    *dst = '\0';
}

static unsigned int hex_value(char ch, unsigned int *bad)
{
    unsigned int c = (unsigned char)ch, known = 0, v = 0;

    v |= pick(c, '0', '9', 0, &known);
    v |= pick(c, 'a', 'f', 10, &known);
    *bad |= ~known;
    return v;
}

int hex_decode(void *dst, const char *src, size_t len)
{
    unsigned char *out = dst;
    unsigned int bad = 0;

    if (strnlen(src, 2 * len + 1) != 2 * len)
        return -1;
    for (size_t i = 0; i < 2 * len; i++)
        (void)hex_value(src[i], &bad);
    if (bad != 0)
        return -1;
    for (size_t i = 0; i < len; i++)
        out[i] =
            (unsigned char)(hex_value(src[2 * i], &bad) << 4 | hex_value(src[2 * i + 1], &bad));
    return 0;
}

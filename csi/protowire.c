/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "csi/protowire.h"

#define NUMBER_MAX 536870911u /* 2^29 - 1 */

static int get_varint(struct protowire_reader *r, uint64_t *ret)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (r->at == r->end)
            return -1;
        uint8_t byte = *r->at++;
        if (shift == 63 && byte > 1)
            return -1;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            *ret = value;
            return 0;
        }
    }
    return -1;
}

static int get_fixed(struct protowire_reader *r, size_t width, uint64_t *ret)
{
    if ((size_t)(r->end - r->at) < width)
        return -1;
    uint64_t value = 0;
    for (size_t i = 0; i < width; i++)
        value |= (uint64_t)r->at[i] << (8 * i);
    r->at += width;
    *ret = value;
    return 0;
}

static int get_bytes(struct protowire_reader *r, struct protowire_field *f)
{
    uint64_t len;
    if (get_varint(r, &len) < 0 || len > (uint64_t)(r->end - r->at))
        return -1;
    f->bytes = r->at;
    f->len = (size_t)len;
    r->at += len;
    return 0;
}

int protowire_next(struct protowire_reader *r, struct protowire_field *ret)
{
    if (r->at == r->end)
        return 0;
    uint64_t tag;
    if (get_varint(r, &tag) < 0 || tag >> 3 == 0 || tag >> 3 > NUMBER_MAX)
        return -1;
    struct protowire_field f = { .number = (uint32_t)(tag >> 3),
                                 .type = (enum protowire_type)(tag & 7) };
    int bad;
    switch (f.type) {
    case PROTOWIRE_VARINT:
        bad = get_varint(r, &f.value);
        break;
    case PROTOWIRE_64BIT:
        bad = get_fixed(r, 8, &f.value);
        break;
    case PROTOWIRE_32BIT:
        bad = get_fixed(r, 4, &f.value);
        break;
    case PROTOWIRE_BYTES:
        bad = get_bytes(r, &f);
        break;
    default: /* groups are gone from proto3 */
        bad = -1;
    }
    if (bad < 0)
        return -1;
    *ret = f;
    return 1;
}

static void add_varint(struct strbuf *sb, uint64_t value)
{
    uint8_t buf[10];
    size_t n = 0;
    do {
        buf[n] = (uint8_t)(value & 0x7f);
        value >>= 7;
        if (value != 0)
            buf[n] |= 0x80;
        n++;
    } while (value != 0);
    strbuf_add(sb, buf, n);
}

void protowire_put_varint(struct strbuf *sb, uint32_t number, uint64_t value)
{
    add_varint(sb, (uint64_t)number << 3 | PROTOWIRE_VARINT);
    add_varint(sb, value);
}

void protowire_put_fixed(struct strbuf *sb, uint32_t number, enum protowire_type type,
                         uint64_t value)
{
    uint8_t buf[8];
    for (unsigned i = 0; i < sizeof(buf); i++)
        buf[i] = (uint8_t)(value >> (8 * i));
    add_varint(sb, (uint64_t)number << 3 | type);
    strbuf_add(sb, buf, type == PROTOWIRE_64BIT ? 8 : 4);
}

void protowire_put_bytes(struct strbuf *sb, uint32_t number, const void *data, size_t len)
{
    add_varint(sb, (uint64_t)number << 3 | PROTOWIRE_BYTES);
    add_varint(sb, len);
    strbuf_add(sb, data, len);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protobuf's wire format: fields lie inside the message, and what was read is the same when it is
 * written and read again.
 *
 * covers: csi/wire.c
 */
#include "tests/fuzz/target.h"

#include "csi/wire.h"

#define MEMORY MIB(4)

static void put(struct strbuf *sb, const struct wire_field *f)
{
    if (f->type == WIRE_VARINT)
        wire_put_varint(sb, f->number, f->value);
    else if (f->type == WIRE_BYTES)
        wire_put_bytes(sb, f->number, f->bytes, f->len);
    else
        wire_put_fixed(sb, f->number, f->type, f->value);
}

static void must_be_equal(const struct wire_field *a, const struct wire_field *b)
{
    must(a->number == b->number && a->type == b->type && a->value == b->value && a->len == b->len);
    must(a->len == 0 || memcmp(a->bytes, b->bytes, a->len) == 0);
}

/* Reads both messages side by side: `again` was made of what `data` holds. */
static void compare(const uint8_t *data, size_t size, const struct strbuf *again)
{
    struct wire_reader x = wire_reader_of(data, size);
    struct wire_reader y = wire_reader_of(strbuf_text(again), again->len);
    struct wire_field a, b;

    while (wire_next(&x, &a) > 0) {
        must(wire_next(&y, &b) == 1);
        must_be_equal(&a, &b);
    }
    must(wire_next(&y, &b) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_STRBUF struct strbuf again = STRBUF_INIT(MEMORY);
    struct wire_reader r = wire_reader_of(data, size);
    struct wire_field f;
    int more;

    while ((more = wire_next(&r, &f)) > 0) {
        must(f.number > 0 && f.number < 1u << 29 && r.at <= data + size);
        must(f.len == 0 || (f.bytes >= data && f.bytes + f.len <= data + size));
        put(&again, &f);
    }
    must(again.failed == false);
    if (more == 0)
        compare(data, size, &again);
    return 0;
}

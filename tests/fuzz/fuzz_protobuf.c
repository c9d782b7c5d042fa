/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protobuf's wire format: fields lie inside the message, and what was read is the same when it is
 * written and read again.
 *
 * covers: csi/protowire.c
 */
#include "tests/fuzz/target.h"

#include "csi/protowire.h"

#define MEMORY MIB(4)

static void put(struct strbuf *sb, const struct protowire_field *f)
{
    if (f->type == PROTOWIRE_VARINT)
        protowire_put_varint(sb, f->number, f->value);
    else if (f->type == PROTOWIRE_BYTES)
        protowire_put_bytes(sb, f->number, f->bytes, f->len);
    else
        protowire_put_fixed(sb, f->number, f->type, f->value);
}

static void must_be_equal(const struct protowire_field *a, const struct protowire_field *b)
{
    must(a->number == b->number && a->type == b->type && a->value == b->value && a->len == b->len);
    must(a->len == 0 || memcmp(a->bytes, b->bytes, a->len) == 0);
}

/* Reads both messages side by side: `again` was made of what `data` holds. */
static void compare(const uint8_t *data, size_t size, const struct strbuf *again)
{
    struct protowire_reader x = protowire_reader_of(data, size);
    struct protowire_reader y = protowire_reader_of(strbuf_text(again), again->len);
    struct protowire_field a, b;

    while (protowire_next(&x, &a) > 0) {
        must(protowire_next(&y, &b) == 1);
        must_be_equal(&a, &b);
    }
    must(protowire_next(&y, &b) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_STRBUF struct strbuf again = STRBUF_INIT(MEMORY);
    struct protowire_reader r = protowire_reader_of(data, size);
    struct protowire_field f;
    int more;

    while ((more = protowire_next(&r, &f)) > 0) {
        must(f.number > 0 && f.number < 1u << 29 && r.at <= data + size);
        must(f.len == 0 || (f.bytes >= data && f.bytes + f.len <= data + size));
        put(&again, &f);
    }
    must(again.failed == false);
    if (more == 0)
        compare(data, size, &again);
    return 0;
}

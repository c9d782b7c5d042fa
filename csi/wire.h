/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.h: protobuf's wire format, one field at a time (protobuf.dev, "Encoding"). protobuf-c's
 * unpack hides what it must not: an embedded NUL, broken UTF-8, how much there is. validate.c and
 * the client therefore read the bytes themselves. Nothing is copied: fields point into the message.
 * Not thread-safe.
 */
#ifndef COFFER_CSI_WIRE_H
#define COFFER_CSI_WIRE_H

#include "common/base.h"
#include "common/strbuf.h"

enum wire_type { WIRE_VARINT = 0, WIRE_64BIT = 1, WIRE_BYTES = 2, WIRE_32BIT = 5 };

struct wire_reader {
    const uint8_t *at, *end;
};

struct wire_field {
    uint32_t number;
    enum wire_type type;
    uint64_t value;       /* WIRE_VARINT, WIRE_64BIT and WIRE_32BIT */
    const uint8_t *bytes; /* WIRE_BYTES; not NUL-terminated */
    size_t len;
};

static inline struct wire_reader wire_reader_of(const void *data, size_t len)
{
    const uint8_t *p = data;
    return (struct wire_reader){ .at = p, .end = len > 0 ? p + len : p };
}

/* 1: *ret is the next field; 0: the end; -1: malformed (truncated, field number 0, a group, a
 * varint of more than ten bytes). */
int wire_next(struct wire_reader *r, struct wire_field *ret) MUST_CHECK;

void wire_put_varint(struct strbuf *sb, uint32_t number, uint64_t value);
void wire_put_fixed(struct strbuf *sb, uint32_t number, enum wire_type type, uint64_t value);
void wire_put_bytes(struct strbuf *sb, uint32_t number, const void *data, size_t len);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protowire.h: protobuf's wire format, one field at a time (protobuf.dev, "Encoding"). protobuf-c's
 * unpack hides what it must not: an embedded NUL, broken UTF-8, how much there is. validate.c and
 * the client therefore read the bytes themselves. Nothing is copied: fields point into the message.
 * Not thread-safe.
 */
#ifndef COFFER_CSI_PROTOWIRE_H
#define COFFER_CSI_PROTOWIRE_H

#include "common/base.h"
#include "common/strbuf.h"

enum protowire_type {
    PROTOWIRE_VARINT = 0,
    PROTOWIRE_64BIT = 1,
    PROTOWIRE_BYTES = 2,
    PROTOWIRE_32BIT = 5
};

struct protowire_reader {
    const uint8_t *at, *end;
};

struct protowire_field {
    uint32_t number;
    enum protowire_type type;
    uint64_t value;       /* PROTOWIRE_VARINT, PROTOWIRE_64BIT and PROTOWIRE_32BIT */
    const uint8_t *bytes; /* PROTOWIRE_BYTES; not NUL-terminated */
    size_t len;
};

static inline struct protowire_reader protowire_reader_of(const void *data, size_t len)
{
    const uint8_t *p = data;
    return (struct protowire_reader){ .at = p, .end = len > 0 ? p + len : p };
}

/* 1: *ret is the next field; 0: the end; -1: malformed (truncated, field number 0, a group, a
 * varint of more than ten bytes). */
int protowire_next(struct protowire_reader *r, struct protowire_field *ret) MUST_CHECK;

void protowire_put_varint(struct strbuf *sb, uint32_t number, uint64_t value);
void protowire_put_fixed(struct strbuf *sb, uint32_t number, enum protowire_type type,
                         uint64_t value);
void protowire_put_bytes(struct strbuf *sb, uint32_t number, const void *data, size_t len);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd/wire.h: the frames between coffer-keyd and its clients (docs/PROTOCOL-keyd.md), as pure
 * functions: no descriptor, no heap, no state. Decoding is strict and canonical: a frame that
 * decodes encodes to the same bytes again. Any malformed frame is ERR_INVALID; what the fields mean
 * is checked elsewhere.
 *
 * Frame: header {u32 magic, u16 version, u16 op, u32 length}, then exactly `length` bytes of fields
 * in the op's fixed order. Field: u16 length, then the bytes; a number is a field of 8 bytes. All
 * little-endian. A reply carries its op with WIRE_REPLY set; its first two fields are code and
 * message, the op's own fields follow only when the code is "OK".
 */
#ifndef COFFER_KEYD_WIRE_H
#define COFFER_KEYD_WIRE_H

#include "common/base.h"
#include "common/error.h"
#include "keyd/client.h"
#include "volume/record.h"

#define WIRE_MAGIC       0x44464f43u /* "COFD" */
#define WIRE_VERSION     1u
#define WIRE_HEADER_SIZE 12u
#define WIRE_FRAME_MAX   16384u
#define WIRE_TOKEN_MAX   8192u
#define WIRE_REPLY       0x8000u
#define WIRE_OK          "OK"

enum wire_op {
    WIRE_NONE = 0, /* only in a reply that answers no request: peer refused, version differs */
    WIRE_MINT = 1,
    WIRE_UNWRAP = 2,
    WIRE_STATUS = 3,
    /* 4 is reserved: docs/PROTOCOL-keyd.md */
    WIRE_DESTROY = 5,
    WIRE_WRAP_FOR = 6,
    WIRE_UNWRAP_CLIENT = 7,
    WIRE_SERVER_KEY = 8,
    WIRE_OP_LIMIT,
};

struct wire_view { /* borrowed from the frame it was decoded from */
    const char *data;
    size_t len;
};

struct wire_request {
    uint16_t op;
    uint64_t deadline_ms; /* what the client will still wait; UINT64_MAX = for ever */
    char kms[KMS_NAME_MAX + 1];
    char tenant[TENANT_MAX + 1];
    char volume_id[VOLUME_ID_MAX + 1];
    char uuid[37];
    char use[16];
    char kind[16];
    char ciphertext[WRAPPED_KEY_MAX + 1];
    uint64_t key_version;
    struct wire_view token; /* the caller's own token; empty = none. Never log it. */
    char algorithm[RECIPIENT_ALGORITHM_MAX + 1];
    struct wire_view public_key; /* DER */
    char commitment[65], fingerprint[65];
    char server_key[KEYD_SERVER_KEY_MAX + 1];
    struct wire_view session; /* a device's, encrypted. Never log it. */
};

struct wire_reply {
    uint16_t op;   /* the request's, without WIRE_REPLY */
    char code[24]; /* WIRE_OK or error_code_name() */
    char message[512];
    char kind[16];
    char ciphertext[WRAPPED_KEY_MAX + 1];
    uint64_t key_version;
    struct wire_view text; /* STATUS: JSON */
    struct wire_view wrapped;
    char key_id[KEYD_SERVER_KEY_MAX + 1], hash[16];
    struct wire_view public_key; /* DER */
};

struct wire_frame {
    size_t len;
    unsigned char bytes[WIRE_FRAME_MAX];
};

struct wire_header {
    uint16_t version, op;
};

struct wire_message; /* one op's row */

/* NULL: no such op. */
const struct wire_message *wire_message_find(uint16_t op);
const char *wire_message_name(const struct wire_message *m);   /* "MINT" */
size_t wire_message_descriptors(const struct wire_message *m); /* how many a request must carry */
const struct wire_message *wire_message_by_name(const char *name,
                                                uint16_t *ret_op); /* NULL: unknown */

/* Magic and length only: the layout of the header is the same in every version. */
int wire_header_decode(const void *bytes, size_t len, struct wire_header *ret,
                       struct error *err) MUST_CHECK;
/* A whole frame of WIRE_VERSION with a known op. Views point into `bytes`. */
int wire_request_decode(const void *bytes, size_t len, struct wire_request *ret,
                        struct error *err) MUST_CHECK;
int wire_reply_decode(const void *bytes, size_t len, struct wire_reply *ret,
                      struct error *err) MUST_CHECK;
/* ERR_EXHAUSTED when it would pass WIRE_FRAME_MAX; ERR_INTERNAL for an unknown op. *ret is scratch
 * space: after a failure it holds no frame. */
int wire_request_encode(const struct wire_request *r, struct wire_frame *ret,
                        struct error *err) MUST_CHECK;
int wire_reply_encode(const struct wire_reply *r, struct wire_frame *ret,
                      struct error *err) MUST_CHECK;

#endif

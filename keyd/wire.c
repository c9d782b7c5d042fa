/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/wire.h"

#include "common/parse.h"

enum wire_type { WIRE_TEXT, WIRE_NUMBER, WIRE_VIEW };

struct wire_field {
    const char *name;
    enum wire_type type;
    size_t offset; /* in struct wire_request or wire_reply */
    size_t size;   /* TEXT: the array's size; VIEW: most bytes */
};

struct wire_message {
    const char *name;
    const struct wire_field *request, *reply;
    size_t n_request, n_reply;
    size_t descriptors;
};

#define TEXT(s, m)                                                       \
    {                                                                    \
#m, WIRE_TEXT, offsetof(struct s, m), sizeof(((struct s *)0)->m) \
    }
#define NUMBER(s, m)                                             \
    {                                                            \
#m, WIRE_NUMBER, offsetof(struct s, m), sizeof(uint64_t) \
    }
#define VIEW(s, m, max)                             \
    {                                               \
#m, WIRE_VIEW, offsetof(struct s, m), (max) \
    }

static const struct wire_field mint_request[] = {
    NUMBER(wire_request, deadline_ms), TEXT(wire_request, kms),  TEXT(wire_request, tenant),
    TEXT(wire_request, volume_id),     TEXT(wire_request, uuid),
};
static const struct wire_field mint_reply[] = {
    TEXT(wire_reply, kind),
    TEXT(wire_reply, ciphertext),
    NUMBER(wire_reply, key_version),
};
static const struct wire_field unwrap_request[] = {
    NUMBER(wire_request, deadline_ms), TEXT(wire_request, kms),
    TEXT(wire_request, tenant),        TEXT(wire_request, volume_id),
    TEXT(wire_request, uuid),          TEXT(wire_request, use),
    TEXT(wire_request, kind),          TEXT(wire_request, ciphertext),
    NUMBER(wire_request, key_version), VIEW(wire_request, token, WIRE_TOKEN_MAX),
};
static const struct wire_field wrap_for_request[] = {
    NUMBER(wire_request, deadline_ms), TEXT(wire_request, kms),
    TEXT(wire_request, tenant),        TEXT(wire_request, volume_id),
    TEXT(wire_request, uuid),          TEXT(wire_request, kind),
    TEXT(wire_request, ciphertext),    NUMBER(wire_request, key_version),
    TEXT(wire_request, algorithm),     VIEW(wire_request, public_key, RECIPIENT_KEY_MAX),
};
static const struct wire_field wrap_for_reply[] = {
    VIEW(wire_reply, wrapped, RECIPIENT_WRAPPED_MAX),
};
static const struct wire_field unwrap_client_request[] = {
    NUMBER(wire_request, deadline_ms), TEXT(wire_request, kms),
    TEXT(wire_request, tenant),        TEXT(wire_request, volume_id),
    TEXT(wire_request, uuid),          TEXT(wire_request, use),
    TEXT(wire_request, commitment),    TEXT(wire_request, fingerprint),
    TEXT(wire_request, server_key),    VIEW(wire_request, session, KEYD_SESSION_MAX),
};
static const struct wire_field server_key_request[] = {
    NUMBER(wire_request, deadline_ms),
    TEXT(wire_request, kms),
};
static const struct wire_field server_key_reply[] = {
    TEXT(wire_reply, key_id),
    TEXT(wire_reply, hash),
    VIEW(wire_reply, public_key, KEYD_PUBLIC_KEY_MAX),
};
static const struct wire_field status_request[] = { NUMBER(wire_request, deadline_ms) };
static const struct wire_field status_reply[] = { VIEW(wire_reply, text, WIRE_FRAME_MAX) };
static const struct wire_field reply_head[] = { TEXT(wire_reply, code), TEXT(wire_reply, message) };

static const struct wire_message messages[WIRE_OP_LIMIT] = {
    [WIRE_MINT] = { .name = "MINT",
                    .request = mint_request,
                    .n_request = ARRAY_SIZE(mint_request),
                    .reply = mint_reply,
                    .n_reply = ARRAY_SIZE(mint_reply) },
    [WIRE_UNWRAP] = { .name = "UNWRAP",
                      .request = unwrap_request,
                      .n_request = ARRAY_SIZE(unwrap_request),
                      .descriptors = 1 },
    [WIRE_DESTROY] = { .name = "DESTROY",
                       .request = mint_request, /* the volume says it all */
                       .n_request = ARRAY_SIZE(mint_request) },
    [WIRE_WRAP_FOR] = { .name = "WRAP_FOR",
                        .request = wrap_for_request,
                        .n_request = ARRAY_SIZE(wrap_for_request),
                        .reply = wrap_for_reply,
                        .n_reply = ARRAY_SIZE(wrap_for_reply) },
    [WIRE_UNWRAP_CLIENT] = { .name = "UNWRAP_CLIENT",
                             .request = unwrap_client_request,
                             .n_request = ARRAY_SIZE(unwrap_client_request),
                             .descriptors = 1 },
    [WIRE_SERVER_KEY] = { .name = "SERVER_KEY",
                          .request = server_key_request,
                          .n_request = ARRAY_SIZE(server_key_request),
                          .reply = server_key_reply,
                          .n_reply = ARRAY_SIZE(server_key_reply) },
    [WIRE_STATUS] = { .name = "STATUS",
                      .request = status_request,
                      .n_request = ARRAY_SIZE(status_request),
                      .reply = status_reply,
                      .n_reply = ARRAY_SIZE(status_reply) },
};

const char *const keyd_use_names[KEYD_USE_COUNT] = {
    [KEYD_USE_STAGE] = "stage",         [KEYD_USE_EXPAND] = "expand",
    [KEYD_USE_ROTATE] = "rotate",       [KEYD_USE_BREAK_GLASS] = "break-glass",
    [KEYD_USE_RECIPIENT] = "recipient", [KEYD_USE_VERIFY] = "verify",
};

const struct wire_message *wire_message_find(uint16_t op)
{
    return op < ARRAY_SIZE(messages) && messages[op].name != NULL ? &messages[op] : NULL;
}

const char *wire_message_name(const struct wire_message *m)
{
    return m->name;
}

size_t wire_message_descriptors(const struct wire_message *m)
{
    return m->descriptors;
}

const struct wire_message *wire_message_by_name(const char *name, uint16_t *ret_op)
{
    for (uint16_t op = 0; op < ARRAY_SIZE(messages); op++) {
        if (messages[op].name == NULL || strcmp(messages[op].name, name) != 0)
            continue;
        *ret_op = op;
        return &messages[op];
    }
    return NULL;
}

static uint64_t get_le(const unsigned char *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static void put_le(unsigned char *p, size_t n, uint64_t v)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

/* ---- decoding ---- */

struct reader {
    const unsigned char *p;
    size_t left;
};

static int read_raw(struct reader *r, const struct wire_field *f, const unsigned char **ret,
                    size_t *ret_len, struct error *err)
{
    if (r->left < 2)
        return error_set(err, ERR_INVALID, "frame: field '%s' is missing", f->name);
    size_t len = (size_t)get_le(r->p, 2);
    if (len > r->left - 2)
        return error_set(err, ERR_INVALID, "frame: field '%s' is cut off", f->name);
    *ret = r->p + 2;
    *ret_len = len;
    r->p += 2 + len;
    r->left -= 2 + len;
    return 0;
}

static int decode_text(const struct wire_field *f, const unsigned char *data, size_t len, void *to,
                       struct error *err)
{
    if (len >= f->size)
        return error_set(err, ERR_INVALID, "frame: field '%s' is longer than %zu bytes", f->name,
                         f->size - 1);
    if (memchr(data, '\0', len) != NULL || !utf8_valid((const char *)data, len))
        return error_set(err, ERR_INVALID, "frame: field '%s' is not text", f->name);
    memcpy(to, data, len);
    ((char *)to)[len] = '\0';
    return 0;
}

static int decode_number(const struct wire_field *f, const unsigned char *data, size_t len,
                         void *to, struct error *err)
{
    if (len != sizeof(uint64_t))
        return error_set(err, ERR_INVALID, "frame: field '%s' is not a number of 8 bytes", f->name);
    uint64_t v = get_le(data, len);
    memcpy(to, &v, sizeof(v));
    return 0;
}

static int decode_view(const struct wire_field *f, const unsigned char *data, size_t len, void *to,
                       struct error *err)
{
    if (len > f->size)
        return error_set(err, ERR_INVALID, "frame: field '%s' is longer than %zu bytes", f->name,
                         f->size);
    struct wire_view v = { .data = (const char *)data, .len = len };
    memcpy(to, &v, sizeof(v));
    return 0;
}

typedef int decode_function(const struct wire_field *, const unsigned char *, size_t, void *,
                            struct error *);
static decode_function *const decoders[] = {
    [WIRE_TEXT] = decode_text,
    [WIRE_NUMBER] = decode_number,
    [WIRE_VIEW] = decode_view,
};

static int decode_fields(struct reader *r, const struct wire_field *fields, size_t n, void *to,
                         struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char *data = NULL;
        size_t len = 0;
        if (read_raw(r, &fields[i], &data, &len, err) < 0 ||
            decoders[fields[i].type](&fields[i], data, len, (char *)to + fields[i].offset, err) < 0)
            return -1;
    }
    return 0;
}

static int decode_end(const struct reader *r, struct error *err)
{
    if (r->left != 0)
        return error_set(err, ERR_INVALID, "frame: %zu bytes after the last field", r->left);
    return 0;
}

int wire_header_decode(const void *bytes, size_t len, struct wire_header *ret, struct error *err)
{
    const unsigned char *p = bytes;
    if (len < WIRE_HEADER_SIZE || len > WIRE_FRAME_MAX)
        return error_set(err, ERR_INVALID, "frame: %zu bytes is not a frame", len);
    if (get_le(p, 4) != WIRE_MAGIC)
        return error_set(err, ERR_INVALID, "frame: wrong magic");
    if (get_le(p + 8, 4) != len - WIRE_HEADER_SIZE)
        return error_set(err, ERR_INVALID, "frame: the header's length is not the frame's");
    ret->version = (uint16_t)get_le(p + 4, 2);
    ret->op = (uint16_t)get_le(p + 6, 2);
    return 0;
}

static int decode_start(const void *bytes, size_t len, struct reader *ret,
                        struct wire_header *ret_header, struct error *err)
{
    if (wire_header_decode(bytes, len, ret_header, err) < 0)
        return -1;
    if (ret_header->version != WIRE_VERSION)
        return error_set(err, ERR_INVALID, "frame: version %u, not %u", ret_header->version,
                         WIRE_VERSION);
    *ret = (struct reader){ .p = (const unsigned char *)bytes + WIRE_HEADER_SIZE,
                            .left = len - WIRE_HEADER_SIZE };
    return 0;
}

int wire_request_decode(const void *bytes, size_t len, struct wire_request *ret, struct error *err)
{
    struct reader in;
    struct wire_header header;
    if (decode_start(bytes, len, &in, &header, err) < 0)
        return -1;
    const struct wire_message *m = wire_message_find(header.op);
    if (m == NULL)
        return error_set(err, ERR_INVALID, "frame: unknown op %u", header.op);
    struct wire_request r = { .op = header.op };
    if (decode_fields(&in, m->request, m->n_request, &r, err) < 0 || decode_end(&in, err) < 0)
        return -1;
    *ret = r;
    return 0;
}

int wire_reply_decode(const void *bytes, size_t len, struct wire_reply *ret, struct error *err)
{
    struct reader in;
    struct wire_header header;
    if (decode_start(bytes, len, &in, &header, err) < 0)
        return -1;
    struct wire_reply r = { .op = (uint16_t)(header.op & ~WIRE_REPLY) };
    const struct wire_message *m = wire_message_find(r.op);
    if ((header.op & WIRE_REPLY) == 0 || (m == NULL && r.op != WIRE_NONE))
        return error_set(err, ERR_INVALID, "frame: op %u is no reply", header.op);
    if (decode_fields(&in, reply_head, ARRAY_SIZE(reply_head), &r, err) < 0)
        return -1;
    if (strcmp(r.code, WIRE_OK) == 0 && m == NULL)
        return error_set(err, ERR_INVALID, "frame: OK in answer to nothing");
    if (strcmp(r.code, WIRE_OK) == 0 && decode_fields(&in, m->reply, m->n_reply, &r, err) < 0)
        return -1;
    if (decode_end(&in, err) < 0)
        return -1;
    *ret = r;
    return 0;
}

/* ---- encoding ---- */

static int put_raw(struct wire_frame *out, const void *data, size_t len)
{
    if (len > UINT16_MAX || out->len + 2 + len > sizeof(out->bytes))
        return -1;
    put_le(out->bytes + out->len, 2, len);
    if (len > 0)
        memcpy(out->bytes + out->len + 2, data, len);
    out->len += 2 + len;
    return 0;
}

static int encode_text(struct wire_frame *out, const void *from)
{
    return put_raw(out, from, strlen(from));
}

static int encode_number(struct wire_frame *out, const void *from)
{
    uint64_t v;
    unsigned char bytes[sizeof(v)];
    memcpy(&v, from, sizeof(v));
    put_le(bytes, sizeof(bytes), v);
    return put_raw(out, bytes, sizeof(bytes));
}

static int encode_view(struct wire_frame *out, const void *from)
{
    struct wire_view v;
    memcpy(&v, from, sizeof(v));
    return put_raw(out, v.data, v.len);
}

static int (*const encoders[])(struct wire_frame *, const void *) = {
    [WIRE_TEXT] = encode_text,
    [WIRE_NUMBER] = encode_number,
    [WIRE_VIEW] = encode_view,
};

static int encode_fields(struct wire_frame *out, const struct wire_field *fields, size_t n,
                         const void *from, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (encoders[fields[i].type](out, (const char *)from + fields[i].offset) < 0)
            return error_set(err, ERR_EXHAUSTED, "frame: field '%s' does not fit in %u bytes",
                             fields[i].name, WIRE_FRAME_MAX);
    }
    return 0;
}

static void encode_header(struct wire_frame *out, unsigned op)
{
    put_le(out->bytes, 4, WIRE_MAGIC);
    put_le(out->bytes + 4, 2, WIRE_VERSION);
    put_le(out->bytes + 6, 2, op);
    put_le(out->bytes + 8, 4, out->len - WIRE_HEADER_SIZE);
}

int wire_request_encode(const struct wire_request *r, struct wire_frame *ret, struct error *err)
{
    const struct wire_message *m = wire_message_find(r->op);
    if (m == NULL)
        return error_set(err, ERR_INTERNAL, "frame: unknown op %u", r->op);
    ret->len = WIRE_HEADER_SIZE;
    if (encode_fields(ret, m->request, m->n_request, r, err) < 0)
        return -1;
    encode_header(ret, r->op);
    return 0;
}

int wire_reply_encode(const struct wire_reply *r, struct wire_frame *ret, struct error *err)
{
    const struct wire_message *m = wire_message_find(r->op);
    bool ok = strcmp(r->code, WIRE_OK) == 0;
    if (m == NULL && (ok || r->op != WIRE_NONE))
        return error_set(err, ERR_INTERNAL, "frame: unknown op %u", r->op);
    ret->len = WIRE_HEADER_SIZE;
    if (encode_fields(ret, reply_head, ARRAY_SIZE(reply_head), r, err) < 0)
        return -1;
    if (ok && encode_fields(ret, m->reply, m->n_reply, r, err) < 0)
        return -1;
    encode_header(ret, r->op | WIRE_REPLY);
    return 0;
}

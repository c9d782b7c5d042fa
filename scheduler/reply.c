/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/reply.h"

#include "scheduler/broken.h"

#include <stdarg.h>

#define TYPE_JSON "application/json"

/* The codes that clients see. */
static const struct {
    unsigned int status;
    const char *code;
    unsigned int retry_after;
} codes[] = {
    { 400, "invalid", 0 },
    { 401, "unauthenticated", 0 },
    { 403, "forbidden", 0 },
    { 404, "not_found", 0 },
    { 405, "method_not_allowed", 0 },
    { 409, "conflict", 0 },
    { 412, "precondition", 0 },
    { 413, "too_large", 0 },
    { 415, "unsupported_media_type", 0 },
    { 429, "too_many", 5 },
    { 500, "internal", 0 },
    { 501, "unimplemented", 0 },
    { 503, "unavailable", 2 },
    { 504, "deadline", 2 },
    { 507, "no_room", 0 },
};

static const unsigned short statuses[ERR_CODE_COUNT] = {
    [ERR_OK] = 500,           [ERR_CANCELED] = 503,
    [ERR_INVALID] = 400,      [ERR_DEADLINE] = 504,
    [ERR_NOT_FOUND] = 404,    [ERR_EXISTS] = 409,
    [ERR_PERMISSION] = 403,   [ERR_EXHAUSTED] = 507,
    [ERR_PRECONDITION] = 412, [ERR_ABORTED] = 409,
    [ERR_OUT_OF_RANGE] = 400, [ERR_UNIMPLEMENTED] = 501,
    [ERR_INTERNAL] = 500,     [ERR_UNAVAILABLE] = 503,
    [ERR_DATA_LOSS] = 500,    [ERR_UNAUTHENTICATED] = 401,
};

static const char no_memory[] =
    "{\"error\":{\"code\":\"internal\",\"message\":\"out of memory\"}}\n";

void reply_clear(struct reply *r)
{
    if (!r->is_constant)
        free(r->body);
    *r = (struct reply)REPLY_INIT;
}

void reply_constant(struct reply *r, const char *type, const char *text, size_t len)
{
    union {
        const char *in;
        char *out; /* never written: is_constant */
    } u = { .in = text };

    reply_clear(r);
    r->status = 200;
    r->type = type;
    r->body = u.out;
    r->len = len;
    r->is_constant = true;
}

static void out_of_memory(struct reply *r)
{
    reply_constant(r, TYPE_JSON, no_memory, sizeof(no_memory) - 1);
    r->status = 500;
}

void reply_text(struct reply *r, unsigned int status, const char *type, const char *text,
                size_t len)
{
    char *copy = malloc(len + 1);

    if (copy == NULL) {
        out_of_memory(r);
        return;
    }
    memcpy(copy, text, len);
    copy[len] = '\0';
    free(r->is_constant ? NULL : r->body);
    r->is_constant = false;
    r->status = status;
    r->type = type;
    r->body = copy;
    r->len = len;
}

void reply_json(struct reply *r, unsigned int status, json_t *value)
{
    AUTO_JSON json_t *owned = value;
    AUTO_FREE char *text = owned != NULL ? json_text(owned, JSON_COMPACT) : NULL;

    if (text == NULL)
        out_of_memory(r);
    else
        reply_text(r, status, TYPE_JSON, text, strlen(text));
}

static void write_error(struct reply *r, unsigned int status, const char *message)
{
    size_t i = 0;

    while (i + 1 < ARRAY_SIZE(codes) && codes[i].status != status)
        i++;
    reply_json(r, codes[i].status,
               json_pack("{s:{s:s, s:s}}", "error", "code", codes[i].code, "message", message));
    r->retry_after = codes[i].retry_after;
}

void reply_error(struct reply *r, const struct error *err)
{
    scheduler_end_when_broken(err);
    write_error(r, (unsigned)err->code < ERR_CODE_COUNT ? statuses[err->code] : 500u, err->msg);
}

void reply_refuse(struct reply *r, unsigned int status, const char *fmt, ...)
{
    char message[512];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    write_error(r, status, message);
}

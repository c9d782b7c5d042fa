/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reply.h: answers, apart from the HTTP library: a status, a body, a few headers. Errors are
 * {"error":{"code":"conflict","message":"..."}}. A reply is one thread's; its body is owned.
 */
#ifndef COFFER_SCHEDULER_REPLY_H
#define COFFER_SCHEDULER_REPLY_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "common/json.h"

struct reply {
    unsigned int status; /* 0: not answered yet */
    const char *type;    /* of the body, a constant */
    char *body;          /* owned, unless is_constant */
    size_t len;
    bool is_constant;
    char location[96];    /* "" : none */
    char allow[32];       /* of a 405; "": none */
    unsigned retry_after; /* seconds; 0: none */
};

#define REPLY_INIT    \
    {                 \
        .status = 0U, \
    }

void reply_clear(struct reply *r);
#define AUTO_REPLY __attribute__((cleanup(reply_clear)))

/* Takes the value over. NULL (out of memory) becomes a 500. */
void reply_json(struct reply *r, unsigned int status, json_t *value);
/* A copy of the text. */
void reply_text(struct reply *r, unsigned int status, const char *type, const char *text,
                size_t len);
/* The text itself, which lives as long as the process. */
void reply_constant(struct reply *r, const char *type, const char *text, size_t len);

/* The status and the code that stand for an error's code. It may be the last (broken.h). */
void reply_error(struct reply *r, const struct error *err);
/* An error that HTTP alone knows: 405, 413, 415, 429. */
void reply_refuse(struct reply *r, unsigned int status, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd/ops.h: what keyd does for one decoded request. Each op is one row; the wire and the
 * connection are the server's business. One thread; a request may be answered later, while others
 * are.
 */
#ifndef COFFER_KEYD_OPS_H
#define COFFER_KEYD_OPS_H

#include "common/base.h"
#include "common/error.h"
#include "common/strbuf.h"
#include "keyd/counters.h"
#include "keyd/kms.h"
#include "keyd/wire.h"
#include "recipient/wrap.h"

#include <sys/types.h>

struct keyd {
    const struct kms_set *kms; /* borrowed */
    bool allowed[WIRE_OP_LIMIT];
    struct counters counters;
    uint64_t connections; /* open now; for STATUS */
    struct event_loop *loop;
    bool broken;        /* the loop was stopped: see ops.c */
    struct strbuf text; /* STATUS's reply, until the next request */
};

#define KEYD_TEXT_MAX (WIRE_FRAME_MAX - 1024u)

/* "MINT,UNWRAP" -> ret[op]; STATUS is always allowed. ERR_INVALID names the unknown op. */
int ops_allow_parse(const char *list, bool ret[WIRE_OP_LIMIT], struct error *err) MUST_CHECK;

struct keyd_request { /* one, from its frame to its reply; the server's memory */
    struct keyd *keyd;
    struct wire_request wire; /* filled in before ops_start, as are the next five */
    int descriptor;           /* the one that came with it, or -1; the server closes it */
    uid_t peer;
    bool peer_may;                        /* ask for this op, as far as it is allowed to anybody */
    void (*done)(struct keyd_request *r); /* called once; `reply` says how it went */
    void *ctx;
    struct wire_reply reply; /* its views live until `done` returns */
    /* ops.c's: */
    struct keyd_binding binding;
    unsigned char context[CONTEXT_SIZE];
    struct keyd_wrapped key;
    struct kms_session session;
    struct kms_job job;
    struct public_key *recipient; /* WRAP_FOR */
    struct wrapped wrapped;
};

/* Runs the request, counts it, writes its audit line; then `done`, perhaps before this returns. */
void ops_start(struct keyd_request *q);
/* A reply that only carries an error. */
void ops_error_reply(uint16_t op, const struct error *err, struct wire_reply *ret);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd/ops.h: what keyd does for one decoded request. Each op is one row; the wire and the
 * connection are the server's business. One thread.
 */
#ifndef COFFER_KEYD_OPS_H
#define COFFER_KEYD_OPS_H

#include "common/base.h"
#include "common/error.h"
#include "common/strbuf.h"
#include "keyd/counters.h"
#include "keyd/kms.h"
#include "keyd/wire.h"

#include <sys/types.h>

struct keyd {
    const struct kms_set *kms; /* borrowed */
    bool allowed[WIRE_OP_LIMIT];
    struct counters counters;
    uint64_t connections; /* open now; for STATUS */
    struct strbuf text;   /* STATUS's reply, until the next request */
};

#define KEYD_TEXT_MAX (WIRE_FRAME_MAX - 1024u)

/* "MINT,UNWRAP" -> ret[op]; STATUS is always allowed. ERR_INVALID names the unknown op. */
int ops_allow_parse(const char *list, bool ret[WIRE_OP_LIMIT], struct error *err) MUST_CHECK;
/* Runs the request, counts it, writes its audit line, fills *ret (also for a failure). descriptor:
 * the one that came with the request, or -1; stays the caller's. Views in *ret live until the next
 * call. */
void ops_handle(struct keyd *k, const struct wire_request *request, int descriptor, uid_t peer,
                struct wire_reply *ret);
/* A reply that only carries an error. */
void ops_error_reply(uint16_t op, const struct error *err, struct wire_reply *ret);

#endif

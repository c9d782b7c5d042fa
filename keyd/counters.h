/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd/counters.h: what keyd has done since it started, for STATUS and SIGUSR1. One thread; never
 * reset.
 */
#ifndef COFFER_KEYD_COUNTERS_H
#define COFFER_KEYD_COUNTERS_H

#include "common/base.h"
#include "common/error.h"
#include "common/json.h"
#include "common/strbuf.h"
#include "keyd/wire.h"

struct counters {
    uint64_t requests[WIRE_OP_LIMIT][ERR_CODE_COUNT]; /* by op and result */
    uint64_t accepted;                                /* connections */
    uint64_t refused_peers; /* connections whose uid and gid are not allowed */
    uint64_t broken;        /* connections ended for a malformed frame */
    uint64_t idle_closed;
};

json_t *counters_to_json(const struct counters *c); /* new reference, or NULL */
void counters_to_text(const struct counters *c,
                      struct strbuf *sb); /* "MINT OK=3, UNWRAP ABORTED=1" */

#endif

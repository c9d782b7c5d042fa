/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd/rights.h: who may connect, and what each may ask for: `--peer USER:GROUP[:OPS]`. One process
 * serves peers that must not be able to do each other's work, such as a host's coffer-controller,
 * which opens no volume, and its coffer-node, which does. Plain value type.
 */
#ifndef COFFER_KEYD_RIGHTS_H
#define COFFER_KEYD_RIGHTS_H

#include "common/base.h"
#include "common/error.h"
#include "common/flags.h"
#include "common/peers.h"
#include "keyd/wire.h"

struct rights {
    struct peers peers;
    bool may[ARRAY_SIZE(((struct peers *)0)->items)][WIRE_OP_LIMIT]; /* of each peer */
};

/* A peer without OPS may ask for all that --allow names. folder: of passwd and group ("/etc").
 * ERR_INVALID with the text that is wrong. */
int rights_parse(const struct flag_strings *texts, const char *folder, struct rights *ret,
                 struct error *err) MUST_CHECK;
/* By all pairs that are these. false: who is that may not connect. */
bool rights_of(const struct rights *r, uid_t uid, gid_t gid, bool ret[WIRE_OP_LIMIT]);

#endif

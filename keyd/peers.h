/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd/peers.h: who may connect: pairs of uid and gid from `--peer UID:GID`, compared with
 * SO_PEERCRED. Never a pid: it reads 0 across containers. Plain value type.
 */
#ifndef COFFER_KEYD_PEERS_H
#define COFFER_KEYD_PEERS_H

#include "common/base.h"
#include "common/error.h"
#include "common/flags.h"

#include <sys/types.h>

struct peers {
    struct peer {
        uid_t uid;
        gid_t gid;
    } items[32];
    size_t n;
};

/* ERR_INVALID on anything but "decimal:decimal"; at least one is needed. */
int peers_parse(const struct flag_strings *texts, struct peers *ret, struct error *err) MUST_CHECK;
bool peers_allow(const struct peers *p, uid_t uid, gid_t gid);

#endif

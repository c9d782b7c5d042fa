/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/key_rewrap.h: one volume's record moved to the newest version of its key. Killed on any
 * line it leaves the old record or the new one, and both open while the old version does. One
 * thread.
 */
#ifndef COFFER_COFFERCTL_KEY_REWRAP_H
#define COFFER_COFFERCTL_KEY_REWRAP_H

#include "backends/backend.h"
#include "cofferctl/key_ring.h"
#include "cofferctl/key_target.h"
#include "common/base.h"
#include "common/error.h"

enum rewrapped {
    REWRAPPED,
    REWRAP_SKIPPED,    /* it is under the newest version; Vault was not asked */
    REWRAP_BUSY,       /* somebody holds its lock, or changed its key meanwhile: later */
    REWRAP_UNFINISHED, /* a create that nobody works on: it has no key yet */
    REWRAP_GONE,       /* deleted, or being deleted: it needs no key any more */
    REWRAP_FAILED,
    REWRAP_OUTCOMES,
};

struct rewrap_volume {
    struct pool *pool;
    struct volume_id id;
};

/* newest: the version that the record must have; k: its key. The lock is taken without waiting, and
 * held only while the record is replaced: a mount never waits for Vault because of a rotation.
 * -1: the run must end (*ret stays), Vault doesn't answer or denies it. REWRAP_FAILED: err says
 * why, and the next volume may go well. */
int rewrap_one(const struct key_target *t, const struct ring_key *k, uint64_t newest,
               const struct rewrap_volume *v, enum rewrapped *ret, struct error *err) MUST_CHECK;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/key_judge.h: may the versions of a key below one be given up? Not while anything may
 * still need them: a record under an older one, a create that is at work, a pool or record that
 * can't be read, a node that nobody has heard of since. Pure.
 */
#ifndef COFFER_COFFERCTL_KEY_JUDGE_H
#define COFFER_COFFERCTL_KEY_JUDGE_H

#include "cofferctl/key_report.h"
#include "cofferctl/key_ring.h"
#include "common/base.h"
#include "common/error.h"

/* Nothing was hidden from whoever filled the ring. */
int key_judge_seen(const struct key_ring *ring, struct error *err) MUST_CHECK;
/* made: when the version was made, by Vault's clock; a report from before it proves nothing: a
 * volume may have been made with the old version since. ERR_PRECONDITION says what is in the way.
 */
int key_judge(const struct key_ring *ring, const struct ring_key *k,
              const struct key_reports *reports, uint64_t version, int64_t made,
              struct error *err) MUST_CHECK;
/* Whoever had a ciphertext in hand when the version was made has put it down by now: at least
 * grace_s later. */
int key_judge_grace(const struct ring_key *k, uint64_t version, int64_t made, int64_t now,
                    uint64_t grace_s, struct error *err) MUST_CHECK;

#endif

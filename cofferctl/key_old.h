/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/key_old.h: what `key retire` and `key trim` share: they look at every pool of this
 * machine and at other machines' reports, and act on a key whose old versions nothing needs. One
 * thread.
 */
#ifndef COFFER_COFFERCTL_KEY_OLD_H
#define COFFER_COFFERCTL_KEY_OLD_H

#include "cofferctl/key_judge.h"
#include "cofferctl/key_target.h"
#include "common/base.h"
#include "common/error.h"

struct key_old_flags {
    struct flag_strings reports;
    uint64_t nodes;
};

extern struct key_old_flags key_old_flags;

/* clang-format off */
#define KEY_OLD_FLAGS \
    { "nodes", NULL, FLAG_UINT, &key_old_flags.nodes, "0", \
      "how many machines have pools: this one and those of --report", NULL }, \
    { "report", NULL, FLAG_STRINGS, &key_old_flags.reports, NULL, \
      "what key status --offline --output json said on another one; repeatable", NULL }
/* clang-format on */

int key_old_check(struct error *err) MUST_CHECK;

struct key_old {
    const struct cli *cli;
    struct key_target *target;
    struct key_ring ring;
    struct key_reports reports;
};

/* Gets what Vault says of the key. */
typedef int key_old_act(const struct key_old *o, const struct ring_key *k,
                        const struct transit_key *key, const json_t *data, struct error *err);

/* Each chosen key, of volumes here or in a report, until one fails. All are judged before the first
 * is acted on: what stands in the way of one is in the way of all. */
int key_old_each(const struct cli *cli, key_old_act *judge, key_old_act *act,
                 struct error *err) MUST_CHECK;
/* key_judge by what the pools hold now. */
int key_old_look_again(const struct key_old *o, const struct ring_key *k, uint64_t version,
                       int64_t made, struct error *err) MUST_CHECK;

#endif

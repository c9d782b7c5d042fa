/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peers.h: who may connect: pairs of uid and gid from `--peer USER:GROUP`, compared with
 * SO_PEERCRED. Never a pid: it reads 0 across containers. Plain value type.
 *
 * A name is looked up once, at start, in the files passwd and group alone: the name service switch
 * would load other people's code into the process that holds keys.
 */
#ifndef COFFER_COMMON_PEERS_H
#define COFFER_COMMON_PEERS_H

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

/* Each half is a decimal number or a name; at least one pair is needed. folder: where passwd and
 * group are ("/etc"). ERR_INVALID with the text that is wrong. Not thread-safe. */
int peers_parse(const struct flag_strings *texts, const char *folder, struct peers *ret,
                struct error *err) MUST_CHECK;
/* One group, by number or name. */
int peers_group_parse(const char *text, const char *folder, gid_t *ret,
                      struct error *err) MUST_CHECK;
bool peers_allow(const struct peers *p, uid_t uid, gid_t gid);

#endif

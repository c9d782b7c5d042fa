/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keylock.h: at most one operation per key (a volume id) in this process. Try-lock only: busy is an
 * answer (ABORTED), never a queue. Thread-safe.
 */
#ifndef COFFER_COMMON_KEYLOCK_H
#define COFFER_COMMON_KEYLOCK_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"

struct keylock;      /* the set */
struct keylock_hold; /* one held key */

struct keylock *keylock_new(void);
void keylock_free(struct keylock *set);
/* ERR_ABORTED "an operation on volume '<key>' is under way" when held. */
int keylock_try(struct keylock *set, const char *key, struct keylock_hold **ret,
                struct error *err) MUST_CHECK;
void keylock_hold_free(struct keylock_hold *hold); /* releases; NULL is fine */

DEFINE_AUTO(keylock_hold, keylock_hold_free)
#define AUTO_KEYLOCK __attribute__((cleanup(cleanup_keylock_hold)))

#endif

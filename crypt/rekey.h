/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rekey.h: which keyslots a rotation of the storage key makes and destroys, on a header's copy in
 * memory; nothing is written to the disk here (rewrite.h).
 */
#ifndef COFFER_CRYPT_REKEY_H
#define COFFER_CRYPT_REKEY_H

#include "common/base.h"
#include "common/error.h"
#include "crypt/luks.h"

/* *ret: the header of `from` with a keyslot for `fresh` as well, finished, and opened by both.
 * Without a free number one goes that `current` doesn't open: what a killed rotation left, or a
 * passphrase of somebody else's. There is such a slot already: only finished. */
int rekey_add(const struct luks *from, int device_fd, const char *uuid,
              const struct secret *current, const struct secret *fresh, struct luks *ret,
              struct error *err) MUST_CHECK;

/* *ret: the header of `from` without the keyslots that `current` doesn't open, finished.
 * ERR_PRECONDITION when it opens none. */
int rekey_prune(struct luks *from, int device_fd, const char *uuid, const struct secret *current,
                struct luks *ret, struct error *err) MUST_CHECK;

#endif

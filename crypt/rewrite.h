/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rewrite.h: a changed header goes back to the disk. It may be stopped anywhere, by a kill or a
 * lost machine: at each moment one whole metadata copy is there, and the keyslots that it names. By
 * O_DIRECT through one description of the device's own node (a second node would leave old pages in
 * the cache), each part flushed before the next.
 */
#ifndef COFFER_CRYPT_REWRITE_H
#define COFFER_CRYPT_REWRITE_H

#include "common/base.h"
#include "common/error.h"
#include "crypt/luks.h"

/* Keyslot areas that differ, then both metadata copies: first the one that `was` doesn't rest on
 * (it was damaged or older), else the secondary. `was` is what the disk holds, `now` is finished.
 */
int rewrite_header(int device_fd, const struct luks *was, const struct luks *now,
                   struct error *err) MUST_CHECK;

/* Overwrites the areas of the keyslots 0 to 2 that the header doesn't use with random bytes. */
int rewrite_unused(int device_fd, const struct header_facts *facts, struct error *err) MUST_CHECK;

#endif

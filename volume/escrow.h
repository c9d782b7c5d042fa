/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volume/escrow.h: the public key that a pool's configuration names ("escrow"): each of its volumes
 * has it as a recipient from its format on. Read where no libcrypto may be, so only its form is
 * looked at here: whether it is a key, and one of a size that is taken, is coffer-keyd's to say.
 */
#ifndef COFFER_VOLUME_ESCROW_H
#define COFFER_VOLUME_ESCROW_H

#include "common/base.h"
#include "common/error.h"
#include "volume/recipients.h"

#define ESCROW_LABEL "escrow"

/* The key of the PEM file at `path` (one PUBLIC KEY block and nothing beside it; symlinks are
 * followed, as a ConfigMap's files are) with label and algorithm; `wrapped` and fingerprint are
 * empty. ERR_PRECONDITION: there is no such file, or it isn't that. */
int escrow_read(const char *path, struct recipient *ret, struct error *err) MUST_CHECK;
/* The same of its text. */
int escrow_decode(const char *text, size_t len, struct recipient *ret,
                  struct error *err) MUST_CHECK;

#endif

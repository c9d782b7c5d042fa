/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commitment.h: keySource client: a user's device made the storage key, keeps it and lends it for a
 * session. Of it the record knows a commitment (keyd/session.h), in the wrapped key's place:
 * kind "client", ciphertext "commit:v1:" and 64 hex digits, key_version 1. Pure.
 */
#ifndef COFFER_VOLUME_COMMITMENT_H
#define COFFER_VOLUME_COMMITMENT_H

#include "common/base.h"
#include "common/error.h"
#include "volume/record.h"

#define KEY_KIND_CLIENT   "client"
#define COMMITMENT_PREFIX "commit:v1:"
#define COMMITMENT_LEN    64u

bool commitment_written(const char *ciphertext); /* in that form */
/* The digits; "" while there are none. */
const char *record_commitment(const struct record *r);
/* ERR_INVALID: that is no commitment. */
int record_commit(struct record *r, const char *commitment, struct error *err) MUST_CHECK;

#endif

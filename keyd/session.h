/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.h: a storage key that its owner's device made and lends for a session. What the device
 * encrypted for the server's RSA key is the frame of volume/session.h.
 *
 * RSA-OAEP as Vault does it has no label and transit's RSA keys no context, so this is all that
 * ties a session to a volume. That the key is the volume's own says the commitment in its record:
 * HMAC-SHA256(storage key, "coffer/v1 commit" and the uuid as text).
 *
 * Pure. Whatever is wrong, the answer is one sentence, after all has been looked at in a time that
 * doesn't depend on it: which check failed is an oracle for who holds another volume's session.
 */
#ifndef COFFER_KEYD_SESSION_H
#define COFFER_KEYD_SESSION_H

#include "common/base.h"
#include "common/error.h"
#include "common/secret.h"
#include "volume/session.h"

#define COMMITMENT_SIZE    32u
#define SESSION_SEALED_MAX 512u /* RSA of 4096 bits */

struct session_claim { /* what the session must be for; borrowed */
    const char *volume_id;
    const char *uuid;        /* canonical text */
    const char *fingerprint; /* 64 lower-case hex digits */
    const char *commitment;  /* likewise */
};

/* plain: what was decrypted, of any length. now: Unix seconds. *ret: the storage key, KEY_BYTES.
 * ERR_INVALID: it isn't a session of this volume and device, or its key isn't the volume's;
 * ERR_PRECONDITION: it is, and is over. */
int session_open(const struct secret *plain, const struct session_claim *claim, uint64_t now,
                 struct secret **ret, struct error *err) MUST_CHECK;
/* The answer to one that isn't. Returns -1. */
int session_refuse(struct error *err);
/* fingerprint and commitment are 64 lower-case hex digits: else ERR_INVALID names it. */
int session_claim_check(const struct session_claim *claim, struct error *err) MUST_CHECK;

/* key: KEY_BYTES bytes */
int session_commitment(const unsigned char *key, const char *uuid,
                       unsigned char ret[COMMITMENT_SIZE], struct error *err) MUST_CHECK;

#endif

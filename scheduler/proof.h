/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proof.h: that a request comes from who has a device's private key. An RSA-OAEP key can't sign, so
 * the nonce comes encrypted for it, and is the key of the request's MAC (docs/scheduler.md):
 *
 *   challenge = base64(expiry[8] nonce[16] name[32] tag[32])
 *   tag       = HMAC-SHA256(own, "coffer/v1 challenge tag" expiry nonce name)
 *   secret    = HMAC-SHA256(own, "coffer/v1 challenge secret" expiry nonce name)
 *   proof     = HMAC-SHA256(secret, "coffer/v1 proof\n" METHOD "\n" PATH "\n" HEX(SHA-256(body))
 * "\n")
 *
 * `own` is made at the start, so a challenge costs no memory until it is used; a restart ends all.
 * The expiry is a clock_ms() value. A used nonce is kept until it expires. Thread-safe.
 */
#ifndef COFFER_SCHEDULER_PROOF_H
#define COFFER_SCHEDULER_PROOF_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "common/secret.h"
#include "scheduler/cloud.h"

#define CHALLENGE_LEN     120u /* characters of base64 */
#define CHALLENGE_SECONDS 60u
#define PROOF_SECRET_LEN  32u
#define PROOF_USED_MAX    100000u /* nonces of one lifetime */

struct proofs; /* opaque */

int proofs_new(struct proofs **ret, struct error *err) MUST_CHECK;
void proofs_free(struct proofs *p);
DEFINE_AUTO(proofs, proofs_free)
#define AUTO_PROOFS __attribute__((cleanup(cleanup_proofs)))

/* A challenge for the device of that name, and the secret that is to be encrypted for it. */
int proofs_challenge(struct proofs *p, const char *name, char ret[CHALLENGE_LEN + 1],
                     struct secret **ret_secret, struct error *err) MUST_CHECK;

struct proof_request { /* borrowed */
    const char *method, *path;
    const void *body;
    size_t body_len;
};

/* header: of Coffer-Proof, NULL: there is none. Uses the challenge up when the proof is right.
 * *name: the device that proved itself. ERR_UNAUTHENTICATED; ERR_EXHAUSTED: too many are in use. */
int proofs_check(struct proofs *p, const char *header, const struct proof_request *q,
                 char name[DEVICE_NAME_LEN + 1], struct error *err) MUST_CHECK;

/* What a device computes: for tests. */
int proof_compute(const struct secret *secret, const struct proof_request *q,
                  unsigned char ret[PROOF_SECRET_LEN], struct error *err) MUST_CHECK;

size_t proofs_used(struct proofs *p);

#endif

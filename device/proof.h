/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/proof.h: that a request comes from who has the device's private key. An RSA-OAEP key can't
 * sign: the server encrypts a secret for it, and that secret signs the request, once. Pure.
 */
#ifndef COFFER_DEVICE_PROOF_H
#define COFFER_DEVICE_PROOF_H

#include "common/base.h"
#include "common/error.h"
#include "common/strbuf.h"
#include "device/key.h"

struct device_challenge { /* what the server sent; borrowed */
    const char *challenge;
    const char *secret; /* base64: wrapped for the device by DEVICE_ALGORITHM */
};

struct device_request {        /* what is proved; borrowed */
    const char *method, *path; /* the path as it is sent, with its query */
    const void *body;
    size_t body_len;
};

/* Appends the header's value: CHALLENGE, a space, 64 hex digits: HMAC-SHA256(secret, "coffer/v1
 * proof\n" METHOD "\n" PATH "\n" HEX(SHA-256(body)) "\n"). ERR_INVALID: the secret isn't for this
 * device, or the challenge isn't text for a header. */
int device_proof(const struct device_key *k, const struct device_challenge *c,
                 const struct device_request *r, struct strbuf *ret, struct error *err) MUST_CHECK;

#endif

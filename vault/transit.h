/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault/transit.h: the transit engine's requests and answers as values. A key is named by mount and
 * name; the context is what a derived key binds a ciphertext to (base64 in the API). Pure; what a
 * builder returns is the caller's, NULL: out of memory.
 */
#ifndef COFFER_VAULT_TRANSIT_H
#define COFFER_VAULT_TRANSIT_H

#include "common/base.h"
#include "common/error.h"
#include "common/secret.h"

#include <jansson.h>

#define TRANSIT_KEY_BYTES 32u

/* POST <mount>/keys/<name>: 256-bit AES-GCM, derived by context. A key that exists stays as it is.
 */
json_t *transit_create_body(void);
/* POST <mount>/datakey/wrapped/<name>: a new 32-byte key, of which only the ciphertext comes back.
 * context NULL: none, which a derived key refuses. */
json_t *transit_datakey_body(const unsigned char *context, size_t len);
/* POST <mount>/decrypt/<name> */
json_t *transit_decrypt_body(const char *ciphertext, const unsigned char *context, size_t len);

/* POST <mount>/rewrap/<name>: the same key under the newest version; no plaintext comes back. */
json_t *transit_rewrap_body(const char *ciphertext, const unsigned char *context, size_t len);
/* POST <mount>/keys/<name>/config: what was wrapped by a version below it opens no more. */
json_t *transit_minimum_body(uint64_t version);
/* POST <mount>/keys/<name>/trim: versions below it are destroyed. Vault wants both minimums set. */
json_t *transit_trim_body(uint64_t version);

struct transit_key { /* versions; a minimum of 0: not set */
    uint64_t latest, min_decryption, min_encryption, min_available;
};

/* Of the "data" of GET <mount>/keys/<name>. ERR_UNAVAILABLE: no transit engine answers so. */
int transit_key_read(const json_t *data, struct transit_key *ret, struct error *err) MUST_CHECK;
/* When that version was made, by Vault's clock, in seconds of Unix time; 0: it isn't said. */
int64_t transit_key_made(const json_t *data, uint64_t version);

/* "vault:v3:..." -> *ret = 3; -1: it isn't one. */
int transit_ciphertext_version(const char *ciphertext, uint64_t *ret) MUST_CHECK;
/* Borrowed from the answer. ERR_UNAVAILABLE: it isn't what a transit engine answers. */
int transit_ciphertext(const json_t *body, const char **ret, struct error *err) MUST_CHECK;
/* *ret: TRANSIT_KEY_BYTES bytes, the caller frees. */
int transit_plaintext(const json_t *body, struct secret **ret, struct error *err) MUST_CHECK;

/* ---- RSA keys: OAEP with SHA-256 and MGF1 with the same, no label ---- */

#define TRANSIT_SEALED_MAX 512u /* RSA of 4096 bits */
#define TRANSIT_OPENED_MAX 446u /* what such a ciphertext can hold */
#define TRANSIT_OAEP_HASH  "SHA-256"

/* POST <mount>/keys/<name>: nobody can take its private half out. */
json_t *transit_create_rsa_body(void);
/* POST <mount>/decrypt/<name>, of what somebody encrypted with the public half of that version. */
json_t *transit_open_body(const unsigned char *sealed, size_t len, uint64_t version);
/* What came out of it, of any length. *ret: the caller frees. */
int transit_opened(const json_t *body, struct secret **ret, struct error *err) MUST_CHECK;
/* Of the answer of GET <mount>/keys/<name>: the newest version, and its public half as PEM,
 * borrowed. ERR_PRECONDITION: it isn't RSA, or somebody may take its private half out. */
int transit_public_key(const json_t *body, uint64_t *ret_version, const char **ret_pem,
                       struct error *err) MUST_CHECK;

#endif

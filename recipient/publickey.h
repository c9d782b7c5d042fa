/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publickey.h: the public half of a key that a person or an organisation holds: RSA of 2048 to 4096
 * bits, or X25519. It comes as a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7) in PEM or DER. What it is
 * known by is the SHA-256 of that DER, whole; two other names of it are shown, never compared.
 *
 * A public key is untrusted input and no secret. Immutable after it is parsed, so thread-safe.
 */
#ifndef COFFER_RECIPIENT_PUBLICKEY_H
#define COFFER_RECIPIENT_PUBLICKEY_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"

#define PUBLIC_KEY_MAX     4096u /* bytes of PEM or DER; RSA of 4096 bits has 800 of PEM */
#define PUBLIC_KEY_DER_MAX 640u  /* RSA of 4096 bits has 550 */
#define FINGERPRINT_LEN    64u   /* lower-case hex */
#define THUMBPRINT_LEN     43u   /* base64url, no padding */

enum public_key_kind {
    PUBLIC_KEY_RSA,
    PUBLIC_KEY_X25519,
};

struct public_key; /* opaque: libcrypto's key, its kind, its fingerprint */

/* ERR_INVALID: it is malformed, has something behind it, is of another kind or size, or its RSA
 * exponent isn't 65537 (what every device makes), or its modulus is even. */
int public_key_parse(const void *data, size_t len, struct public_key **ret,
                     struct error *err) MUST_CHECK;
void public_key_free(struct public_key *k); /* NULL is fine */
DEFINE_AUTO(public_key, public_key_free)
#define AUTO_PUBLIC_KEY __attribute__((cleanup(cleanup_public_key)))

enum public_key_kind public_key_kind(const struct public_key *k);
unsigned int public_key_bits(const struct public_key *k);
/* FINGERPRINT_LEN digits: SHA-256 of the SubjectPublicKeyInfo's DER. */
const char *public_key_fingerprint(const struct public_key *k);

/* The SubjectPublicKeyInfo in DER, which the fingerprint is of. *ret_len <= PUBLIC_KEY_DER_MAX. */
int public_key_der(const struct public_key *k, unsigned char *ret, size_t *ret_len,
                   struct error *err) MUST_CHECK;

/* RFC 7638 (RFC 8037 §2 for X25519): SHA-256 of the JWK's required members. */
int public_key_thumbprint(const struct public_key *k, char ret[THUMBPRINT_LEN + 1],
                          struct error *err) MUST_CHECK;
/* Arcs' name of a device key: SHA-256 of the JWK's "n" as it is written there. RSA only: else
 * ERR_PRECONDITION. */
int public_key_arcs_fingerprint(const struct public_key *k, char ret[FINGERPRINT_LEN + 1],
                                struct error *err) MUST_CHECK;

/* libcrypto's EVP_PKEY, which stays k's; for this folder's algorithms. */
void *public_key_handle(const struct public_key *k);

#endif

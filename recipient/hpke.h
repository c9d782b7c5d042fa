/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hpke.h: RFC 9180 in base mode, one message for one key: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
 * AES-256-GCM (kem 0x0020, kdf 0x0001, aead 0x0002). OpenSSL has it from 3.2 on; Debian 12 has 3.0.
 *
 * A sealed message is enc (32 bytes, the sender's ephemeral public key), the ciphertext (as long as
 * the plaintext) and a tag (16). What `info` holds is not in it: the receiver must know it, and
 * another one doesn't open. Nobody is authenticated as the sender.
 *
 * Pure but for the ephemeral key, which is libcrypto's random. Thread-safe.
 */
#ifndef COFFER_RECIPIENT_HPKE_H
#define COFFER_RECIPIENT_HPKE_H

#include "common/base.h"
#include "common/error.h"
#include "common/secret.h"

#define HPKE_KEY_BYTES      32u /* of either half of an X25519 key, raw (RFC 7748) */
#define HPKE_OVERHEAD_BYTES 48u /* enc and tag */

struct bytes { /* somebody else's */
    const void *data;
    size_t len;
};

/* Writes HPKE_OVERHEAD_BYTES + secret_len(plain) bytes. ERR_INVALID: the public key is none that
 * can be used (of small order, RFC 7748 §6.1). */
int hpke_seal(const unsigned char public_key[HPKE_KEY_BYTES], struct bytes info, struct bytes aad,
              const struct secret *plain, unsigned char *ret, struct error *err) MUST_CHECK;

/* The same with an ephemeral key that is known: for the RFC's test vectors alone. */
int hpke_seal_with(const struct secret *ephemeral, const unsigned char public_key[HPKE_KEY_BYTES],
                   struct bytes info, struct bytes aad, const struct secret *plain,
                   unsigned char *ret, struct error *err) MUST_CHECK;

/* ERR_INVALID, and nothing of the plaintext, when anything differs: key, info, aad, one bit. */
int hpke_open(const struct secret *private_key, struct bytes info, struct bytes aad,
              struct bytes sealed, struct secret **ret, struct error *err) MUST_CHECK;

#endif

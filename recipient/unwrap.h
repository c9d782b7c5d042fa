/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unwrap.h: the private half of publickey.h, and the storage key that was wrapped for it (wrap.h).
 * For a process that does this once and exits: libcrypto keeps the private key, and what it
 * computes on the way, in memory of its own, which it doesn't wipe everywhere.
 *
 * A private key comes as PKCS#8 in PEM, without a passphrase; whoever has one with a passphrase
 * gives what `openssl pkey` makes of it through a pipe. Immutable after it is parsed. Thread-safe.
 */
#ifndef COFFER_RECIPIENT_UNWRAP_H
#define COFFER_RECIPIENT_UNWRAP_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "common/secret.h"
#include "recipient/publickey.h"
#include "recipient/wrap.h"

#define PRIVATE_KEY_MAX 16384u /* bytes of PEM; RSA of 4096 bits has 3300 */

struct private_key; /* opaque: libcrypto's key and its public half */

/* ERR_INVALID: it is malformed, has a passphrase, something stands beside it, or its public half
 * is none that publickey.h takes. No sentence quotes any of it. */
int private_key_parse(const struct secret *pem, struct private_key **ret,
                      struct error *err) MUST_CHECK;
void private_key_free(struct private_key *k); /* NULL is fine; libcrypto wipes it */
DEFINE_AUTO(private_key, private_key_free)
#define AUTO_PRIVATE_KEY __attribute__((cleanup(cleanup_private_key)))

/* Its public half, which stays k's: kind, fingerprint, other names. */
const struct public_key *private_key_public(const struct private_key *k);

/* What wrap_key wrapped, or a device by the same algorithm. ERR_INVALID with one sentence for every
 * cause (another key, hash, info, a changed bit), and nothing of the plaintext; another one when
 * the algorithm doesn't take keys of this kind. */
int unwrap_key(const struct wrap_algorithm *a, const struct private_key *own, struct bytes info,
               struct bytes wrapped, struct secret **ret, struct error *err) MUST_CHECK;

#endif

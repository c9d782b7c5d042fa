/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wrap.h: a storage key for the holder of a public key, by one of the algorithms in a table. A
 * wrapped key is bytes that are no secret; only the private half, which never comes here, opens it.
 *
 *   RSA-OAEP-256, RSA-OAEP-512          RFC 8017 §7.1, MGF1 with the same hash, no label (that is
 *                                       what WebCrypto, Vault and smart cards do): bound to no use
 *   HPKE-Base-X25519-SHA256-A256GCM     hpke.h, `info` as given
 *
 * Pure but for libcrypto's random. Thread-safe.
 */
#ifndef COFFER_RECIPIENT_WRAP_H
#define COFFER_RECIPIENT_WRAP_H

#include "common/base.h"
#include "common/error.h"
#include "common/secret.h"
#include "recipient/hpke.h"
#include "recipient/publickey.h"

#define WRAP_PLAIN_MAX \
    96u /* bytes of what is wrapped; RSA of 2048 bits with SHA-512 has room for 126 */
#define WRAPPED_MAX 512u /* bytes: RSA of 4096 bits */

struct wrapped {
    unsigned char data[WRAPPED_MAX];
    size_t len;
};

struct wrap_algorithm {
    const char *name;
    enum public_key_kind kind; /* of the keys that it takes */
    const char *hash;          /* of RSA-OAEP, libcrypto's name; else NULL */
    int (*seal)(const struct wrap_algorithm *a, const struct public_key *to, struct bytes info,
                const struct secret *key, struct wrapped *ret, struct error *err);
};

/* NULL when there is none of that name. */
const struct wrap_algorithm *wrap_algorithm(const char *name);

/* What a key is wrapped by when nobody says: RSA-OAEP-256, or HPKE. Never NULL. */
const struct wrap_algorithm *wrap_default(const struct public_key *to);

/* ERR_INVALID: the algorithm doesn't take keys of this kind; the key to wrap is empty or longer
 * than WRAP_PLAIN_MAX. */
int wrap_key(const struct wrap_algorithm *a, const struct public_key *to, struct bytes info,
             const struct secret *key, struct wrapped *ret, struct error *err) MUST_CHECK;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * allow.h: the allowlist for LUKS2 metadata from an untrusted disk (LUKS2 on-disk format 1.1.0,
 * §3). Everything a Coffer header doesn't have is refused by name: what libcryptsetup 2.6 accepts
 * includes a null cipher in keyslot or segment, capi: ciphers, argon2 with any memory, tokens that
 * name a plug-in. Pure: JSON text in, facts out. Its text is what libcryptsetup itself holds in
 * memory (crypt_dump_json), so that no second parser can see another header.
 */
#ifndef COFFER_CRYPT_ALLOW_H
#define COFFER_CRYPT_ALLOW_H

#include "common/base.h"
#include "common/error.h"
#include "volume/geometry.h"

#define ALLOW_ITERATIONS_MAX 10000u

struct header_facts {
    bool slot[GEOMETRY_SLOTS]; /* keyslots that are there and open the data segment */
    char digest[65]; /* hex of SHA-256 over the canonical digest object, as the record has it */
};

/* ERR_DATA_LOSS with one sentence that names what isn't allowed. */
int allow_metadata(const char *json, size_t len, struct header_facts *ret,
                   struct error *err) MUST_CHECK;

#endif

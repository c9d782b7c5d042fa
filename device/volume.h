/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/volume.h: a volume's storage key as its user's device handles it (docs/client-keys.md):
 * made here, wrapped for the devices that may have it, lent to the cluster as a session that is
 * encrypted for the server's key and bound to volume, uuid, device and expiry. The key itself is in
 * struct secret alone and in no result; everything that comes out may be shown to the cluster.
 * Pure but for randomness and the clock. Thread-safe.
 */
#ifndef COFFER_DEVICE_VOLUME_H
#define COFFER_DEVICE_VOLUME_H

#include "common/base.h"
#include "common/error.h"
#include "device/key.h"

#define DEVICE_COMMITMENT_LEN 64u

struct device_volume { /* what the first device says of a key it made */
    char uuid[37];
    char commitment[DEVICE_COMMITMENT_LEN + 1];
    char wrapped[DEVICE_WRAPPED_SIZE]; /* for the device itself, by DEVICE_ALGORITHM */
};

struct device_server { /* what sessions are encrypted for; borrowed texts */
    const char *key_id;
    const char *hash;       /* "SHA-256", "SHA-512" */
    const char *public_key; /* base64, DER */
};

struct device_lending { /* which volume, to whom, how long; borrowed */
    const char *volume_id, *uuid;
    struct device_server server;
    uint64_t expiry; /* Unix seconds */
};

/* *ret_key: the caller's, for the session that goes with it. */
int device_volume_new(const struct device_key *k, struct device_volume *ret,
                      struct secret **ret_key, struct error *err) MUST_CHECK;
/* HMAC-SHA256(key, "coffer/v1 commit" uuid) in hex. */
int device_commitment(const struct secret *key, const char *uuid,
                      char ret[DEVICE_COMMITMENT_LEN + 1], struct error *err) MUST_CHECK;
/* The session: base64. ERR_INVALID: the server's key is none, or of an unknown hash; the key hasn't
 * 32 bytes. */
int device_lend(const struct device_key *k, const struct secret *key,
                const struct device_lending *to, char ret[DEVICE_WRAPPED_SIZE],
                struct error *err) MUST_CHECK;

/* A new storage key for the devices that stay (base64 public keys, this one among them): session
 * and commitment by it, and what is wrapped for each. */
struct device_new_key {
    char session[DEVICE_WRAPPED_SIZE];
    char commitment[DEVICE_COMMITMENT_LEN + 1];
    struct device_form {
        char fingerprint[FINGERPRINT_LEN + 1];
        char wrapped[DEVICE_WRAPPED_SIZE];
    } * forms; /* owned */
    size_t n_forms;
};
struct device_stays { /* borrowed */
    const char *public_key, *algorithm;
};
int device_new_key_make(const struct device_key *k, const struct device_lending *to,
                        const struct device_stays *stay, size_t n, struct device_new_key *ret,
                        struct error *err) MUST_CHECK;
void device_new_key_clear(struct device_new_key *n);
#define AUTO_DEVICE_NEW_KEY __attribute__((cleanup(device_new_key_clear)))

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/key.h: a user's device: an RSA key pair in a file, PKCS#8 in PEM, mode 0600. By `name` it
 * is known in URLs (Arcs' fingerprint), by `fingerprint` in sessions and records
 * (recipient/publickey.h). Owner: whoever loaded it. Immutable, so thread-safe. libcrypto keeps the
 * private half in memory of its own: for a program that does one thing and exits, and that has
 * called http_global_init or has libcrypto wipe its memory otherwise.
 */
#ifndef COFFER_DEVICE_KEY_H
#define COFFER_DEVICE_KEY_H

#include "common/base.h"
#include "common/b64.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "common/secret.h"
#include "recipient/publickey.h"
#include "recipient/unwrap.h"

#define DEVICE_KEY_BITS        3072u
#define DEVICE_ALGORITHM       "RSA-OAEP-256"
#define DEVICE_PUBLIC_KEY_SIZE (B64_LEN(PUBLIC_KEY_DER_MAX) + 1)
#define DEVICE_WRAPPED_SIZE    (B64_LEN(WRAPPED_MAX) + 1)

struct device_key; /* opaque */

/* Makes a key pair in a new file. ERR_EXISTS: there is something of that name. */
int device_key_create(const char *path, struct error *err) MUST_CHECK;
/* ERR_INVALID: it isn't such a key, or not RSA of 2048 to 4096 bits; ERR_PERMISSION: others than
 * its owner may read or write it. */
int device_key_load(const char *path, struct device_key **ret, struct error *err) MUST_CHECK;
/* The same of what is in memory already. */
int device_key_parse(const struct secret *pem, struct device_key **ret,
                     struct error *err) MUST_CHECK;
void device_key_free(struct device_key *k); /* NULL is fine */
DEFINE_AUTO(device_key, device_key_free)
#define AUTO_DEVICE_KEY __attribute__((cleanup(cleanup_device_key)))

/* Borrowed, as long as k. */
const char *device_key_name(const struct device_key *k);        /* 64 hex digits */
const char *device_key_fingerprint(const struct device_key *k); /* 64 hex digits */
const char *device_key_public(const struct device_key *k);      /* base64, DER */

/* Another's public key as text (PEM, or base64 of the DER), which must be RSA: the three names of
 * it, as above. */
struct device_public {
    char name[FINGERPRINT_LEN + 1];
    char fingerprint[FINGERPRINT_LEN + 1];
    char text[DEVICE_PUBLIC_KEY_SIZE];
};
int device_public_parse(const char *text, size_t len, struct device_public *ret,
                        struct error *err) MUST_CHECK;

/* What was wrapped for this device, base64. ERR_INVALID: by another algorithm, for another key, or
 * changed. */
int device_unwrap(const struct device_key *k, const char *algorithm, const char *wrapped,
                  struct secret **ret, struct error *err) MUST_CHECK;
/* For another key (base64, DER), by RSA-OAEP with that hash's algorithm name. */
int device_wrap(const char *algorithm, const char *public_key, const struct secret *plain,
                char ret[DEVICE_WRAPPED_SIZE], struct error *err) MUST_CHECK;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client_key.h: what a user's device says of the storage key that it made (keySource client), as it
 * comes with CreateVolume, in its secrets: `uuid`, `commitment`, `publicKey`, `algorithm`,
 * `wrapped`, and `label`, which may be left out. None of it opens anything. docs/client-keys.md.
 * Pure; no error quotes a value.
 */
#ifndef COFFER_VOLUME_CLIENT_KEY_H
#define COFFER_VOLUME_CLIENT_KEY_H

#include "common/base.h"
#include "common/error.h"
#include "volume/commitment.h"
#include "volume/params.h"
#include "volume/recipients.h"
#include "volume/record.h"

struct client_key {
    char uuid[37]; /* random, version 4 */
    char commitment[COMMITMENT_LEN + 1];
    char device[RECIPIENTS_TEXT_MAX + 1]; /* the first recipient, in recipients.h's text */
    char fingerprint[65];                 /* the device's */
};

/* Other entries are ignored: one secret may serve several calls. ERR_INVALID names the first that
 * is missing or malformed. That the public key is one only the device needs to know: its DER is
 * looked at for its form. */
int client_key_decode(const struct param *secrets, size_t n, struct client_key *ret,
                      struct error *err) MUST_CHECK;

/* *ret: what differs from the volume that is there, or NULL. While a record is `minting` it has no
 * commitment yet. Adding recipients later changes nothing: the device must be among them. */
int client_key_differs(const struct client_key *key, const struct record *r, const char **ret,
                       struct error *err) MUST_CHECK;

#endif

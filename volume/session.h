/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volume/session.h: how a device lends a volume's storage key. What it encrypts for the server's
 * RSA key is a frame; the device writes it (device/volume.c), coffer-keyd judges it
 * (keyd/session.c). Pure.
 */
#ifndef COFFER_VOLUME_SESSION_H
#define COFFER_VOLUME_SESSION_H

#include "common/base.h"
#include "volume/context.h"

#define SESSION_MAGIC    "coffer/v1c"
#define SESSION_BYTES    82u
#define SESSION_KEY_SIZE 32u /* the storage key */

struct session_frame {
    char magic[10]; /* SESSION_MAGIC */
    unsigned char key[SESSION_KEY_SIZE];
    unsigned char binding[CONTEXT_SIZE];
    unsigned char expiry[8]; /* Unix seconds, big-endian */
} __attribute__((packed));
_Static_assert(sizeof(struct session_frame) == SESSION_BYTES, "the frame is 82 bytes");

/* SHA-256 over the tuple (SESSION_MAGIC, volume id, uuid, the device's fingerprint in 64 hex
 * digits, the 8 bytes of the expiry), each element as in volume/context.h. */
void session_bind(const char *volume_id, const char *uuid, const char *fingerprint,
                  const unsigned char expiry[8], unsigned char ret[CONTEXT_SIZE]);

/* What a commitment is the HMAC-SHA256 of, under the storage key: "coffer/v1 commit" and the uuid
 * as text. The uuid is one (36 characters). */
#define COMMIT_TEXT_SIZE (16u + 36u)
void session_commit_text(const char *uuid, unsigned char ret[COMMIT_TEXT_SIZE]);

#endif

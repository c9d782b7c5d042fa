/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keys.h: what coffer-crypt derives from a volume's storage key SK (RFC 5869, SHA-256; salt = the
 * 16 raw bytes of the volume's uuid, in the order in which they are written; info without a NUL):
 *   passphrase  the 64 lower-case hex digits of HKDF(SK, salt, "coffer/v1 luks2 keyslot", 32)
 *   MAC key     HKDF(SK, salt, "coffer/v1 record", 32); the record's mac is HMAC-SHA256 under it
 */
#ifndef COFFER_CRYPT_KEYS_H
#define COFFER_CRYPT_KEYS_H

#include "common/base.h"
#include "common/error.h"
#include "common/secret.h"
#include "volume/record.h"

/* Reads one whole key frame (keyd/frame.h) from the pipe by the deadline (clock_ms); never waits
 * for EOF. Late: ERR_DEADLINE; writer gone or a status other than OK: ERR_UNAVAILABLE; not a frame:
 * ERR_INVALID. */
int key_read_frame(int fd, uint64_t deadline, struct secret **ret, struct error *err) MUST_CHECK;

/* uuid: canonical text. The passphrase is 64 characters without a NUL. */
int key_passphrase(const struct secret *sk, const char *uuid, struct secret **ret,
                   struct error *err) MUST_CHECK;
/* The record's mac: lower-case hex and a NUL; r->digest is under it. */
int key_record_mac(const struct secret *sk, const struct record *r, char ret[65],
                   struct error *err) MUST_CHECK;
/* ERR_DATA_LOSS when r->mac isn't the record's; constant time. */
int key_verify_record(const struct secret *sk, const struct record *r,
                      struct error *err) MUST_CHECK;

#endif

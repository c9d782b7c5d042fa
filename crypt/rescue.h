/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rescue.h: a volume's storage key by a private key: of one of the recipients in its record
 * (volume/recipients.h). The record is untrusted, and the storage key that comes of it as well,
 * until the record's MAC was checked with it.
 */
#ifndef COFFER_CRYPT_RESCUE_H
#define COFFER_CRYPT_RESCUE_H

#include "common/base.h"
#include "common/error.h"
#include "common/secret.h"
#include "volume/record.h"

/* All that a file or a pipe holds, by the deadline (clock_ms). ERR_INVALID: more than a private key
 * ever is; ERR_DEADLINE. */
int rescue_read_private_key(int fd, uint64_t deadline, struct secret **ret,
                            struct error *err) MUST_CHECK;

/* pem: as recipient/unwrap.h takes it. ERR_PRECONDITION: it is no recipient's of this record;
 * ERR_INVALID: not a private key, or it doesn't open what was wrapped for it; ERR_DATA_LOSS: the
 * list is malformed, or what was wrapped is no storage key. */
int rescue_storage_key(const struct secret *pem, const struct record *r, struct secret **ret,
                       struct error *err) MUST_CHECK;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * luks.h: the only user of libcryptsetup (2.6.1 and later). Handles are always made on a sealed
 * memfd or, for a format, on the device itself; never by crypt_init_by_name (it reads the disk's
 * header again). libcryptsetup keeps global state: one thread only.
 */
#ifndef COFFER_CRYPT_LUKS_H
#define COFFER_CRYPT_LUKS_H

#include "common/base.h"
#include "common/error.h"
#include "common/secret.h"
#include "crypt/allow.h"

struct crypt_device;

struct luks {                /* a checked header */
    int memfd;               /* sealed; owned */
    struct crypt_device *cd; /* on memfd; owned */
    struct header_facts facts;
};
#define LUKS_INIT               \
    {                           \
        .memfd = -1, .cd = NULL \
    }
void luks_release(struct luks *l);
#define AUTO_LUKS __attribute__((cleanup(luks_release)))

/* Once, first: external tokens off, messages kept for errors, /run/cryptsetup made (0700). */
int luks_setup(struct error *err) MUST_CHECK;

/* Writes a new LUKS2 header of Coffer's geometry with one keyslot, 0, and flushes it. `path` is a
 * block device or (tests) a file, at least 4 MiB + one sector long; a size that isn't a multiple of
 * 4096 is refused. A mapping over it: ERR_ABORTED. */
int luks_format(const char *path, const char *uuid, const struct secret *passphrase,
                struct error *err) MUST_CHECK;

/* Seals a copy of the header behind device_fd, loads it and lets only Coffer's own form pass; its
 * uuid must be `uuid`, and its digest `digest` unless that is NULL (right after a format).
 * ERR_DATA_LOSS. */
int luks_load(int device_fd, const char *uuid, const char *digest, struct luks *ret,
              struct error *err) MUST_CHECK;

/* The passphrase opens a keyslot. No: ERR_PRECONDITION. */
int luks_verify(struct luks *l, const struct secret *passphrase, struct error *err) MUST_CHECK;

/* Makes the mapping `name` over the data device. The caller reads the live table back. */
int luks_activate(struct luks *l, const char *name, const struct secret *passphrase, bool read_only,
                  bool discards, struct error *err) MUST_CHECK;

/* Grows the live mapping to its device's size. */
int luks_resize(struct luks *l, const char *name, const struct secret *passphrase,
                struct error *err) MUST_CHECK;

#endif

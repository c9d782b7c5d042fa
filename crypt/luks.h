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
    int memfd;               /* sealed, but for a copy that is being changed; owned */
    struct crypt_device *cd; /* on memfd; owned */
    struct header_facts facts;
    bool primary_stale; /* of a luks_copy: the disk rests on its secondary metadata copy, the
                           primary is damaged or older */
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

/* ret[slot]: this passphrase opens it. */
int luks_opens(struct luks *l, const struct secret *passphrase, bool ret[GEOMETRY_SLOTS],
               struct error *err) MUST_CHECK;

/* --- changing keyslots: on a copy in memory, never on the disk --- */

/* The same header in a memfd that may be changed. A metadata copy that is damaged or older than the
 * other is mended in it. device_fd: as luks_load's. */
int luks_copy(const struct luks *from, int device_fd, const char *uuid, struct luks *ret,
              struct error *err) MUST_CHECK;
/* Adds a keyslot; `opener` opens one that is there. The lowest free number, because libcryptsetup
 * takes the first gap for the slot's area, and each number has its place. */
int luks_add_slot(struct luks *copy, int slot, const struct secret *opener,
                  const struct secret *passphrase, struct error *err) MUST_CHECK;
/* Its area is overwritten, too. */
int luks_kill_slot(struct luks *copy, int slot, struct error *err) MUST_CHECK;
/* Nothing is changed any more: seals the copy and lets it pass what luks_load asks of a disk's
 * header, with the same digest as before. */
int luks_finish(struct luks *copy, int device_fd, const char *uuid, struct error *err) MUST_CHECK;

/* Makes the mapping `name` over the data device. The caller reads the live table back. */
int luks_activate(struct luks *l, const char *name, const struct secret *passphrase, bool read_only,
                  bool discards, struct error *err) MUST_CHECK;

/* Grows the live mapping to its device's size. */
int luks_resize(struct luks *l, const char *name, const struct secret *passphrase,
                struct error *err) MUST_CHECK;

#endif

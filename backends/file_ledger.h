/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file_ledger.h: promised.json, the sum of the sizes of a pool's images, so that a sparse pool's
 * CreateVolume and GetCapacity needn't look at every volume (docs/backends.md, "Sparse pools").
 *
 * The sum is a cache of what the images say. It is valid within one boot of the machine: within it,
 * a change is written before and after it is made, so the next user can finish what a killed one
 * began; after it, or when it can't be understood, the images are counted again. So it is never
 * fsync'd, and nothing is lost with it. One open `struct file_ledger` is one thread's, and holds
 * the ledger's flock: everybody else (threads and processes) waits up to LEDGER_WAIT_MS, then
 * ERR_ABORTED. Bytes, headers included.
 */
#ifndef COFFER_BACKENDS_FILE_LEDGER_H
#define COFFER_BACKENDS_FILE_LEDGER_H

#include "backends/backend.h"
#include "common/base.h"
#include "common/cleanup.h"

#define FILE_LEDGER      "promised.json"
#define FILE_LEDGER_SIZE 512 /* always: it is rewritten in place, which needs no free space */
#define LEDGER_WAIT_MS   10000u
#define LEDGER_LOOK_MS   50u /* of file_ledger_look */

struct file_ledger {
    int fd;            /* locked; -1: this pool has none */
    int root;          /* borrowed: the pool's directory */
    bool live;         /* it is of this boot; else it says nothing, and nothing is booked */
    uint64_t promised; /* while a change is under way: as before it */
    uint64_t counted;  /* CLOCK_BOOTTIME in seconds: when the images were last looked at */
    char boot[37];     /* of this boot */
};
#define FILE_LEDGER_INIT     \
    {                        \
        .fd = -1, .root = -1 \
    }
void file_ledger_close(struct file_ledger *l);
#define AUTO_FILE_LEDGER __attribute__((cleanup(file_ledger_close)))

/* Locks the ledger and finishes what a killed user began. count: makes it, and counts the images,
 * when there is none of this boot (that reads the whole pool once). Without it (pools that promise
 * nothing, removal) such a ledger stays as it is, with live = false. */
int file_ledger_open(const struct pool *pool, int root, bool count, struct file_ledger *ret,
                     struct error *err) MUST_CHECK;
/* Counts again, unless that was done in the last minute. *ret_changed: the sum is another one. */
int file_ledger_recount(struct file_ledger *l, bool *ret_changed, struct error *err) MUST_CHECK;
/* Before and after the change of one image's size from `from` (0: there is none). */
int file_ledger_begin(struct file_ledger *l, const char *hash, uint64_t from,
                      struct error *err) MUST_CHECK;
int file_ledger_end(struct file_ledger *l, uint64_t from, uint64_t now,
                    struct error *err) MUST_CHECK;
/* It can't be written: whoever comes next counts. */
int file_ledger_void(struct file_ledger *l, struct error *err) MUST_CHECK;

/* The sum, when it can be had without counting or a long wait; else ERR_UNAVAILABLE. */
int file_ledger_look(int root, uint64_t *ret_promised, struct error *err) MUST_CHECK;

/* What the ledger says, as text (tests). boot: the one that must be in it. ERR_DATA_LOSS. */
struct file_ledger_text {
    uint64_t promised, counted, from;
    char volume[33]; /* "": no change is under way */
};
int file_ledger_decode(const char *text, size_t len, const char *boot, struct file_ledger_text *ret,
                       struct error *err) MUST_CHECK;

#endif

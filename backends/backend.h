/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend.h: where volumes live. One backend is one file with one `struct backend_ops` and one row
 * in registry.c. A backend keeps each volume's record beside its bytes, gives the volume's flock,
 * and turns a volume into a block device. It knows nothing of keys, CSI or dm-crypt.
 *
 * Threads: a `struct pool` is shared by all threads (immutable once pool_ready has answered 0;
 * `tag` and `priv` may be read only after that); a `struct volume` is one thread's. Every call
 * checks pool.json first: missing, unreadable or with another id -> ERR_UNAVAILABLE (an unmounted
 * directory looks empty, and empty must never mean "no such volume").
 */
#ifndef COFFER_BACKENDS_BACKEND_H
#define COFFER_BACKENDS_BACKEND_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "volume/config.h"
#include "volume/id.h"
#include "volume/record.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

struct pool; /* opaque; backend-private part behind it */

/* One volume, locked: its flock is held by lock_fd until volume_close, and by every child that
 * inherits lock_fd. */
struct volume {
    struct pool *pool; /* borrowed */
    struct volume_id id;
    int dir_fd; /* backend-private handle of the volume's place */
    int lock_fd;
};

struct block_device {
    int fd; /* open on the device; closing it may detach the device (autoclear) */
    dev_t dev;
    char path[64];     /* /dev/loop7; for logs and child arguments under our own fd only */
    bool attached_now; /* this call made it */
};

/* A block device that shows a volume's bytes, whoever made it. */
struct attachment {
    dev_t dev;
    char path[64]; /* /dev/loop7 */
    bool ours;     /* all of the bytes and writable, as attach makes it or would take it */
};

#define WHERE_ATTACHMENTS_MAX 8

/* Where a volume's bytes are, for people. */
struct volume_where {
    char place[4200]; /* its directory */
    char data[4300];  /* its bytes: a file (later: a device, an image's name) */
    bool has_data;    /* they are there: */
    uint64_t size, allocated;
    struct attachment attachments[WHERE_ATTACHMENTS_MAX];
    size_t n_attachments; /* may be more than fit */
    char problem[256];    /* why attachments couldn't be looked for; "" */
};

/* What a pool's place can do. */
struct pool_probe {
    char fs[24];          /* "ext4", "xfs", ... or its magic number */
    uint64_t total, free; /* bytes, as the file system is now */
    bool tried;           /* the next two were found out; else `problem` says why not */
    bool direct_io, reserves_space;
    char problem[256];
};

/* Bytes. */
struct pool_capacity {
    uint64_t total, free; /* of the file system, as it is */
    uint64_t promised;    /* the sizes of all images; 0 in a full pool, where they are reserved */
    uint64_t available;   /* for images that are not there yet */
};

/* false: stop. Not to call the pool's list_records again. */
typedef bool list_record_cb(void *ctx, const char *id, const struct record_summary *summary,
                            const struct error *problem);

struct fs_owner; /* common/fs.h */

struct backend_ops {
    const char *name; /* "file" */
    bool node_local;
    /* owner: whom the pool's empty directory is given to; NULL: as it is */
    int (*pool_init)(const struct pool_config *cfg, const struct fs_owner *owner, char ret_tag[9],
                     struct error *err);
    int (*pool_open)(struct pool *pool, struct error *err); /* reads pool.json, sets tag and priv */
    void (*pool_close)(struct pool *pool);
    int (*pool_check)(struct pool *pool, struct error *err); /* refreshes used and free */
    int (*capacity)(struct pool *pool, struct pool_capacity *ret, struct error *err);
    /* The same without waiting or counting; ERR_UNAVAILABLE when that would be needed. */
    int (*look)(struct pool *pool, struct pool_capacity *ret, struct error *err);
    /* create: makes the volume's place if absent (the create-if-absent is the name's lock). Without
     * it an absent volume is ERR_NOT_FOUND. Busy: ERR_ABORTED. */
    int (*open)(struct pool *pool, const struct volume_id *id, bool create, struct volume *ret,
                struct error *err);
    /* ERR_NOT_FOUND: none yet. ERR_DATA_LOSS: there is one that can't be read, or ought to be. */
    int (*read_record)(struct volume *v, struct record *ret, struct error *err);
    /* Writes r->gen + 1, only over a record of r->gen (0: only when there is none); updates it. */
    int (*write_record)(struct volume *v, struct record *r, struct error *err);
    /* Grows, never shrinks; idempotent. No space: ERR_EXHAUSTED, nothing changed. */
    int (*allocate)(struct volume *v, uint64_t device_bytes, struct error *err);
    int (*allocated)(struct volume *v, uint64_t *ret_bytes, struct error *err);
    /* Overwrites what was written of the first `bytes`, in place as far as the storage goes. */
    int (*scrub)(struct volume *v, uint64_t bytes, struct error *err);
    /* A file beside the record, 0600, for a copy of the header while that is changed; open for
     * reading and writing, with what an earlier call left in it. */
    int (*header_backup)(struct volume *v, int *ret_fd, struct error *err);
    /* Overwritten as far as the storage goes, and gone. There is none: 0. */
    int (*drop_header_backup)(struct volume *v, struct error *err);
    int (*remove)(struct volume *v, struct error *err); /* data, record, lock, place; idempotent */
    /* That open found no such volume is durable: its remover may have been killed before. */
    int (*settle_absent)(struct pool *pool, const struct volume_id *id, struct error *err);
    /* Attaches (or finds the attachment of) the volume's bytes. */
    int (*attach)(struct volume *v, struct block_device *ret, struct error *err);
    /* After allocate: makes the attached device show the new size. */
    int (*refresh)(struct volume *v, struct block_device *dev, struct error *err);
    /* Calls cb for each volume id in ascending order of the id text, starting after `after` (""
     * = all). cb returns false to stop. */
    int (*list)(struct pool *pool, const char *after, bool (*cb)(void *ctx, const char *id),
                void *ctx, struct error *err);
    /* The same with what each volume's record says; NULL: it can't be read, `problem` is
     * peek_record's. An unchanged record may be remembered from an earlier call: only for lists,
     * all else reads the record. The texts live as long as the call of cb. */
    int (*list_records)(struct pool *pool, const char *after, list_record_cb *cb, void *ctx,
                        struct error *err);
    /* The record without taking the lock (ValidateVolumeCapabilities, cofferctl). Its writer may
     * have been killed before it was durable: what can't be taken back is done after `settle`. */
    int (*peek_record)(struct pool *pool, const struct volume_id *id, struct record *ret,
                       struct error *err);

    /* ---- for administrators: cofferctl, node reconcile ---- */
    /* All that the calls above found is durable: no power cut brings back what was before. */
    int (*settle)(struct pool *pool, struct error *err);
    /* The record's stored bytes, whatever they are. ERR_NOT_FOUND: no record (or no volume). */
    int (*peek_text)(struct pool *pool, const struct volume_id *id, struct strbuf *ret,
                     struct error *err);
    /* Writes r as it is, whatever is there now. Only for what volume/restore.h allows. */
    int (*replace_record)(struct volume *v, const struct record *r, struct error *err);
    /* ERR_NOT_FOUND: no such volume. Takes no lock. */
    int (*locate)(struct pool *pool, const struct volume_id *id, struct volume_where *ret,
                  struct error *err);
    /* Calls cb for each attachment of a volume of this pool, until it returns false. */
    int (*each_attachment)(struct pool *pool,
                           bool (*cb)(void *ctx, const struct volume_id *id,
                                      const struct attachment *a),
                           void *ctx, struct error *err);
    /* Takes the attachment away: one of this volume, `ours`, that nobody has open (else
     * ERR_ABORTED). Gone already: 0. */
    int (*detach)(struct volume *v, dev_t dev, struct error *err);
    /* Calls cb for each process that has a volume's lock open (so probably holds it; taking the
     * lock tells), until it returns false. */
    int (*each_lock_holder)(struct pool *pool,
                            bool (*cb)(void *ctx, const struct volume_id *id, const char *pid),
                            void *ctx, struct error *err);
    /* Leaves nothing behind. */
    int (*probe)(struct pool *pool, struct pool_probe *ret, struct error *err);
};

struct pool {
    const struct backend_ops *ops;
    const struct pool_config *config; /* borrowed */
    char tag[9];                      /* first 8 hex of the pool's random id */
    void *priv;
    pthread_mutex_t opening; /* registry.c's: one thread opens a late pool */
    atomic_bool opened;
    atomic_ullong used, free; /* bytes, as the last pool_check found them */
    atomic_uint pressure;     /* pressure.c's: thresholds passed */
};

struct pool_set {
    struct pool **pools;
    size_t n;
};

/* registry.c */
const struct backend_ops *backend_find(const char *name); /* NULL: unknown */
/* Opens all pools of the config; pools of different kinds are refused. A pool whose directory isn't
 * there now is opened with tag "" and retried by every call (UNAVAILABLE meanwhile). */
int pool_set_open(const struct config *config, struct pool_set **ret, struct error *err) MUST_CHECK;
void pool_set_free(struct pool_set *set);
struct pool *pool_set_find(struct pool_set *set, const char *name); /* NULL: none */
/* The pool of an id: unknown pool name -> ERR_NOT_FOUND; pool not there -> ERR_UNAVAILABLE; another
 * pool tag -> ERR_PRECONDITION. */
int pool_set_for_id(struct pool_set *set, const struct volume_id *id, struct pool **ret,
                    struct error *err) MUST_CHECK;
/* list_records of all pools, in ascending order of the id text over all of them; false from cb
 * stops the whole. A pool that isn't there: ERR_UNAVAILABLE. */
int pool_set_list_records(const struct pool_set *set, const char *after, list_record_cb *cb,
                          void *ctx, struct error *err) MUST_CHECK;
/* pressure.c: the daemons' own lines (a library doesn't log else). pool_watch: after pool_ready;
 * says when a pool passes 80 or 95 % of real use, once. How many of them it is over now. */
#define POOL_PRESSURE_MAX 2
unsigned pool_watch(struct pool *pool);
void pool_set_log_counters(struct pool_set *set); /* for SIGUSR1 */

/* Checked, generic front: */
int pool_ready(struct pool *pool, struct error *err) MUST_CHECK; /* opens late, checks pool.json */
int volume_open(struct pool *pool, const struct volume_id *id, bool create, struct volume *ret,
                struct error *err) MUST_CHECK;
void volume_close(struct volume *v); /* drops the lock; safe on VOLUME_INIT */
void block_device_close(struct block_device *d);

#define VOLUME_INIT                               \
    {                                             \
        .pool = NULL, .dir_fd = -1, .lock_fd = -1 \
    }
#define BLOCK_DEVICE_INIT                                     \
    {                                                         \
        .fd = -1, .dev = 0, .path = "", .attached_now = false \
    }
#define AUTO_VOLUME       __attribute__((cleanup(volume_close)))
#define AUTO_BLOCK_DEVICE __attribute__((cleanup(block_device_close)))
static inline void cleanup_pool_set(struct pool_set **p)
{
    if (*p != NULL)
        pool_set_free(*p);
}
#define AUTO_POOL_SET __attribute__((cleanup(cleanup_pool_set)))

#endif

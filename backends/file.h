/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.h: inside the file backend (file*.c); registry.c takes the table. Layout below the pool's
 * path (docs/backends.md): pool.json, promised.json (file_ledger.h), spare, volumes/<2 hex>/<32
 * hex>/{lock,record.json,image,header.backup}.
 */
#ifndef COFFER_BACKENDS_FILE_H
#define COFFER_BACKENDS_FILE_H

#include "common/base.h"
#include "backends/backend.h"
#include "common/cleanup.h"
#include "common/fs.h"

#include <dirent.h>
#include <linux/loop.h>
#include <sys/stat.h>

#define FILE_POOL_JSON     "pool.json"
#define FILE_VOLUMES       "volumes"
#define FILE_LOCK          "lock"
#define FILE_RECORD        "record.json"
#define FILE_RECORD_TMP    "record.json.tmp" /* fs_write_atomic_at's */
#define FILE_IMAGE         "image"
#define FILE_SPARE         "spare"
#define FILE_HEADER_BACKUP "header.backup"
#define FILE_PLACE_MAX     64

extern const struct backend_ops file_backend;

struct file_cache; /* file_cache.h */

struct file_pool {
    char id[33];                      /* as this process first saw it */
    size_t cache_max;                 /* bytes */
    struct file_cache *_Atomic cache; /* NULL until the first list_records */
};

/* file.c */
/* pool.json: the pool's random id, 32 hex digits. ERR_INVALID, ERR_DATA_LOSS or ERR_PRECONDITION.
 */
int file_pool_decode(const char *text, size_t len, char ret_id[33], struct error *err) MUST_CHECK;
/* The pool's directory, opened afresh and checked against pool.json. */
int file_root_open(const struct pool *pool, int *ret_fd, struct error *err) MUST_CHECK;

/* file_list.c: the ids of a pool, in order */
#define FILE_SHARDS 256u /* "volumes/00" to "volumes/ff" */
struct file_name {
    char hash[33];
    ino_t place; /* inode of its directory, as the shard shows it; 0: it isn't known to be one */
};
struct file_names {
    struct file_name *items;
    size_t n, cap;
};
void file_names_release(struct file_names *names);
#define AUTO_FILE_NAMES __attribute__((cleanup(file_names_release)))
/* The shard's, in ascending order; none when there is no such shard. */
int file_shard_names(int root, unsigned shard, struct file_names *ret,
                     struct error *err) MUST_CHECK;
/* A pool's ids differ only in the hash: those that sort after `after` are those whose hash does
 * after this. */
const char *file_hash_after(const struct pool *pool, const char *after);
bool file_shard_is_over(unsigned shard, const char *hash_after); /* holds nothing after it */
int file_list(struct pool *pool, const char *after, bool (*cb)(void *ctx, const char *id),
              void *ctx, struct error *err);
/* A reader of the directory that leaves fd's own position alone; NULL with errno. */
DIR *file_dir(int fd);
static inline void cleanup_dir(DIR **d)
{
    int saved = errno;

    if (*d != NULL)
        (void)closedir(*d);
    errno = saved;
}
#define AUTO_DIR __attribute__((cleanup(cleanup_dir)))

/* file_place.c: places and their locks */
/* "volumes/3f/3f0c…": relative to the pool's directory. */
void file_place_name(const struct volume_id *id, char ret[FILE_PLACE_MAX]);
/* Puts "pool 'x', <path>/volumes/3f/3f0c…: " in front of an error. Returns -1. */
int file_place_error(const struct pool *pool, const struct volume_id *id, struct error *err);
/* Opens a regular file without following a link; what is there but isn't one is ERR_DATA_LOSS. */
int file_open_regular(int dirfd, const char *name, int flags, int *ret_fd,
                      struct error *err) MUST_CHECK;
/* Makes an empty file, 0600, of the owner of `dirfd`. ERR_EXISTS when the name is taken. */
int file_make(int dirfd, const char *name, int *ret_fd, struct error *err) MUST_CHECK;

/* Opens a directory below the pool's, following no link on the way. */
int file_open_below(int root, const char *path, int *ret_fd, struct error *err) MUST_CHECK;
int file_open(struct pool *pool, const struct volume_id *id, bool create, struct volume *ret,
              struct error *err);
int file_scrub(struct volume *v, uint64_t bytes, struct error *err);
int file_remove(struct volume *v, struct error *err);
int file_settle_absent(struct pool *pool, const struct volume_id *id, struct error *err);
/* Zeros over what was written of the first `end` bytes, flushed. Holes stay holes: a full file
 * system must not keep anybody from it. */
int file_zero_data(int fd, off_t end, const char *name, struct error *err) MUST_CHECK;

/* file_backup.c */
int file_header_backup(struct volume *v, int *ret_fd, struct error *err);
int file_drop_header_backup(struct volume *v, struct error *err);

/* file_volume.c: record and bytes */
int file_read_record(struct volume *v, struct record *ret, struct error *err);
int file_write_record(struct volume *v, struct record *r, struct error *err);
/* The record in a volume's directory, without a lock; the error names no pool. */
int file_record_at(int dir, const struct volume_id *id, struct record *ret,
                   struct error *err) MUST_CHECK;
int file_peek_record(struct pool *pool, const struct volume_id *id, struct record *ret,
                     struct error *err);
/* For a volume that has a record: no image is ERR_DATA_LOSS. */
int file_image_open(const struct volume *v, int flags, int *ret_fd, struct stat *ret_st,
                    struct error *err) MUST_CHECK;
int file_settle(struct pool *pool, struct error *err);
int file_peek_text(struct pool *pool, const struct volume_id *id, struct strbuf *ret,
                   struct error *err);
int file_replace_record(struct volume *v, const struct record *r, struct error *err);
int file_allocate(struct volume *v, uint64_t device_bytes, struct error *err);
int file_allocated(struct volume *v, uint64_t *ret_bytes, struct error *err);
/* The error of an image that could not be made `bytes` long. Returns -1. */
int file_reserve_failed(const struct volume *v, int sys_errno, uint64_t bytes, uint64_t before,
                        struct error *err);

/* file_sparse.c */
struct file_space { /* the file system; total and free in whole MiB */
    uint64_t total, free, used;
    bool read_only; /* mounted so, or gone so after an error */
};
int file_space(int fd, struct file_space *ret, struct error *err) MUST_CHECK;
/* Below that much free space a sparse pool makes no new promises: 1 %, 64 MiB to 1 GiB. */
uint64_t file_sparse_reserve(uint64_t total);
/* What may still be promised. */
uint64_t file_sparse_room(const struct pool_config *config, const struct file_space *space,
                          uint64_t promised);
/* Fills promised and available. */
int file_sparse_capacity(const struct pool *pool, int root, bool count, struct pool_capacity *ret,
                         struct error *err) MUST_CHECK;
/* Makes the image open at fd `bytes` long, more than its `from`. Nothing is flushed. */
int file_sparse_allocate(const struct volume *v, int fd, uint64_t from, uint64_t bytes,
                         struct error *err) MUST_CHECK;

/* file_spare.c */
/* Makes the spare when it isn't there. What fails is tried again next time. */
void file_spare_keep(int root);
/* The spare becomes the record in `dir`. */
int file_spare_use(int root, int dir, const struct strbuf *text, struct error *err) MUST_CHECK;

/* file_loop.c */
struct file_loop {
    unsigned number;
    dev_t dev;
    char path[64];
    struct loop_info64 info;
};
/* Calls cb for each loop device that has a file; non-zero from it ends the search and is the
 * answer. */
int file_each_loop(int (*cb)(void *ctx, const struct file_loop *l, struct error *err), void *ctx,
                   struct error *err) MUST_CHECK;
/* The file is that one; the path in sysfs changes with mount namespaces. */
bool file_loop_shows(const struct file_loop *l, const struct stat *image);
/* All of the file and writable. */
bool file_loop_usable(const struct file_loop *l);
/* Any file as a block device that can't be written, beside whatever else shows it; for a short
 * look.
 */
int file_loop_look(int image_fd, struct block_device *ret, struct error *err) MUST_CHECK;
int file_attach(struct volume *v, struct block_device *ret, struct error *err);
int file_refresh(struct volume *v, struct block_device *dev, struct error *err);

/* file_admin.c */
int file_locate(struct pool *pool, const struct volume_id *id, struct volume_where *ret,
                struct error *err);
int file_each_attachment(struct pool *pool,
                         bool (*cb)(void *ctx, const struct volume_id *id,
                                    const struct attachment *a),
                         void *ctx, struct error *err);
int file_detach(struct volume *v, dev_t dev, struct error *err);
int file_each_lock_holder(struct pool *pool,
                          bool (*cb)(void *ctx, const struct volume_id *id, const char *pid),
                          void *ctx, struct error *err);
int file_probe(struct pool *pool, struct pool_probe *ret, struct error *err);

#endif

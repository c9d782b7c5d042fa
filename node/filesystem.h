/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/filesystem.h: one row per file system (fs_ext4.c, fs_xfs.c, fs_btrfs.c): make, check, size,
 * grow, and what is common to them. Nothing here repairs what may lose data: such a file system is
 * refused with ERR_DATA_LOSS, and filesystem_advice says what an administrator types.
 *
 * Labels and uuids: no label is ever made, and nothing is ever found or mounted by label or uuid:
 * whoever holds a raw block volume can write any superblock he likes, so a label proves nothing.
 * What is mounted is the device node of a mapping whose key, header and record fit together.
 *
 * Every child inherits the volume's lock: an orphaned mkfs still holds it. Each kind of child has
 * its own time limit; over it: ERR_DEADLINE. Errors end with the tool's last words. Thread-safe.
 */
#ifndef COFFER_NODE_FILESYSTEM_H
#define COFFER_NODE_FILESYSTEM_H

#include "common/base.h"
#include "common/error.h"

#include <sys/types.h>

/* What a row works on; all of it borrowed. */
struct fs_device {
    const char *path; /* our own device node */
    int fd;           /* open on it */
    int lock_fd;      /* of the volume; every child inherits it: an orphaned mkfs still holds it */
    bool no_space;    /* writes to blocks that were never written may fail: its pool is full */
};

struct filesystem {
    const char *name;       /* as in the record and in the capability */
    const char *mount_type; /* NULL: raw block, nothing is made or mounted */
    /* Options, comma-separated; "" = none: of every mount, of one in a sparse pool (nothing is
     * written that nobody asked for), of a volume that discards. */
    const char *mount_data, *mount_sparse, *mount_discard;
    const char *look;   /* what an administrator runs on the opened device, up to its name */
    const char *advice; /* and what he should know then; "" = nothing */
    int (*make)(const struct fs_device *d, struct error *err);
    /* Before a mount of a volume that holds data. Repairs only what can't lose anything. */
    int (*check)(const struct fs_device *d, struct error *err);
    /* The block device below a mount that is open as mount_fd. */
    int (*device)(int mount_fd, dev_t *ret, struct error *err);
    /* Bytes that the mounted file system believes its device to have: the least that one of its
     * superblocks says. */
    int (*size)(const struct fs_device *d, int mount_fd, uint64_t *ret, struct error *err);
    /* Grows the mounted file system to its device's `bytes`. */
    int (*grow)(const struct fs_device *d, int mount_fd, uint64_t bytes, struct error *err);
};

/* One file each. */
extern const struct filesystem filesystem_ext4, filesystem_xfs, filesystem_btrfs;

const struct filesystem *filesystem_find(const char *name); /* NULL: unknown */

/* ERR_DATA_LOSS unless the mount is on device `dev` and on no other: a file system that spans
 * devices (btrfs) could show what another volume's owner wrote. */
int filesystem_verify(const struct filesystem *fs, int mount_fd, dev_t dev,
                      struct error *err) MUST_CHECK;
/* Makes the file system that is mounted read-write at `path` as large as its device `dev`; never
 * shrinks. *ret_grown: it was smaller. */
int filesystem_grow(const struct filesystem *fs, const struct fs_device *d, dev_t dev,
                    const char *path, bool *ret_grown, struct error *err) MUST_CHECK;
/* A mount that failed like this found the file system damaged. */
bool filesystem_is_damage(int sys_errno);
/* Adds to err what an administrator types on this node to look at volume `id`, whose bytes are in
 * `source` (an image or a device). Returns -1. */
int filesystem_advice(const struct filesystem *fs, const char *id, const char *source,
                      struct error *err);

/* ---- for the rows ---- */

#define FILESYSTEM_MAKE_MS  600000u
#define FILESYSTEM_CHECK_MS 1800000u /* a journal replay is short, a full check isn't */
#define FILESYSTEM_GROW_MS  600000u

struct proc_result;
/* A child with the lock. ERR_PRECONDITION when the program isn't installed (`package` has it). */
int filesystem_run(const char *const *argv, const char *package, int lock_fd, uint64_t limit_ms,
                   struct proc_result *r, struct error *err) MUST_CHECK;
/* The same, and any exit code but 0 is ERR_INTERNAL with the child's last line. */
int filesystem_run_ok(const char *const *argv, const char *package, int lock_fd, uint64_t limit_ms,
                      struct error *err) MUST_CHECK;
/* Makes the last line of standard output that holds anything r->last_line: plain text, since it
 * goes into an error. */
void filesystem_keep_output(struct proc_result *r);
/* Exactly len bytes at an offset of the device. */
int filesystem_read(int fd, void *buf, size_t len, uint64_t offset, struct error *err) MUST_CHECK;
/* ERR_DATA_LOSS when a file system of `bytes` is larger than its device. */
int filesystem_fits(const struct fs_device *d, uint64_t bytes, struct error *err) MUST_CHECK;
/* `device` of those whose files have the block device's number. */
int filesystem_plain_device(int mount_fd, dev_t *ret, struct error *err);

static inline uint32_t fs_le32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t fs_le64(const unsigned char *p)
{
    return fs_le32(p) | (uint64_t)fs_le32(p + 4) << 32;
}

static inline uint32_t fs_be32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

static inline uint64_t fs_be64(const unsigned char *p)
{
    return (uint64_t)fs_be32(p) << 32 | fs_be32(p + 4);
}

#endif

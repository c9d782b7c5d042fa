/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/mounts.h: mountinfo (proc(5)) read as a table, and the few mount operations a node makes, by
 * the new mount API (fsopen(2), open_tree(2), mount_setattr(2)): a bind mount is read-only before
 * it is visible. Mountinfo is this process's own; it is read anew for every question. Thread-safe;
 * a table is its caller's, to be released.
 */
#ifndef COFFER_NODE_MOUNTS_H
#define COFFER_NODE_MOUNTS_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"

#include <sys/types.h>

struct mount_entry {
    uint64_t id, parent; /* parent: the mount it is attached to */
    dev_t dev;           /* st_dev of files on it */
    char *root;          /* path inside the file system, unescaped */
    char *point;         /* where it is mounted, unescaped */
    char *fs_type;
    char *source;   /* what was mounted, as the file system shows it now, unescaped */
    bool read_only; /* of this mount point or of its super block */
};

struct mount_table {
    struct mount_entry *items;
    size_t n;
};

int mount_table_parse(const char *text, size_t len, struct mount_table *ret,
                      struct error *err) MUST_CHECK;
int mount_table_load(struct mount_table *ret, struct error *err) MUST_CHECK;
void mount_table_release(struct mount_table *t);
#define AUTO_MOUNT_TABLE __attribute__((cleanup(mount_table_release)))

/* The topmost mount at exactly that path, or NULL. */
const struct mount_entry *mount_table_at(const struct mount_table *t, const char *path);

/* Says whether the entry's file system lies on that block device, by what the entry itself says; of
 * btrfs, whose number is no device's, by its source. Also for another process's table. */
bool mount_lies_on(const struct mount_entry *entry, dev_t device);

enum mount_match { MOUNT_NONE, MOUNT_OURS, MOUNT_FOREIGN };
/* What is mounted at path, seen from one volume's mapping: a file system on it, or (block) a bind
 * mount of a device node with its number. */
enum mount_match mount_match(const struct mount_entry *entry, dev_t mapping);

/* A bind mount of a device node of that file name, whatever its number leads to by now. */
bool mount_is_node(const struct mount_entry *entry, const char *name);

struct mount_options {
    bool read_only;
    unsigned long flags; /* MS_ bits of mount(2), as volume/capability.h makes them */
    const char *data;    /* the file system's own options, comma-separated; "" = none */
};

/* Mounts a new super block, always nodev,nosuid, where nobody sees it yet: *ret_fd is open on it,
 * and closing that unmounts it. ERR_PRECONDITION when this kernel lacks the file system. */
int mount_make(const char *fs_type, const char *device, const struct mount_options *o, int *ret_fd,
               struct error *err) MUST_CHECK;
/* Shows it at directory `target`. */
int mount_attach(int mount_fd, const char *target, struct error *err) MUST_CHECK;
/* Bind mount of a directory or of a device node; nodev is not set for a node (it is the device). */
int mount_bind(const char *source, const char *target, bool read_only,
               struct error *err) MUST_CHECK;
/* One umount2(UMOUNT_NOFOLLOW). EBUSY is ERR_ABORTED. */
int mount_remove(const char *target, struct error *err) MUST_CHECK;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mountinfo.h: mountinfo (proc(5)) read as a table, anew for every question, and what its entries
 * say about a block device. Thread-safe; a table is its caller's, to be released.
 */
#ifndef COFFER_COMMON_MOUNTINFO_H
#define COFFER_COMMON_MOUNTINFO_H

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
    char *source;     /* what was mounted, as the file system shows it now, unescaped */
    bool read_only;   /* of this mount point or of its super block */
    bool failed;      /* this mount point may be written to, its super block is read-only: so most
                         file systems end up after an error */
    bool no_symlinks; /* of this mount point: "nosymfollow" */
};

struct mount_table {
    struct mount_entry *items;
    size_t n;
};

/* It was mounted so: one that failed is as read-write as it was asked for. */
static inline bool mount_asked_read_only(const struct mount_entry *e)
{
    return e->read_only && !e->failed;
}

int mount_table_parse(const char *text, size_t len, struct mount_table *ret,
                      struct error *err) MUST_CHECK;
/* This process's own. */
int mount_table_load(struct mount_table *ret, struct error *err) MUST_CHECK;
/* A mountinfo file: another process's shows its namespace. */
int mount_table_read(const char *path, struct mount_table *ret, struct error *err) MUST_CHECK;
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
/* The same the other way: its file name and its number; false: it is no bind mount of a node. */
bool mount_node_name(const struct mount_entry *entry, char *ret, size_t size, dev_t *ret_dev);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fskind.h: the file systems a volume can hold, as facts that controller and node share: name,
 * smallest volume, mount options of its own. How one is made, mounted and grown is
 * node/filesystem.h's. Constant tables, thread-safe.
 */
#ifndef COFFER_VOLUME_FSKIND_H
#define COFFER_VOLUME_FSKIND_H

#include "common/base.h"

#define FS_KIND_NONE    "none" /* raw block, as the record says it */
#define FS_KIND_DEFAULT "ext4" /* what an empty fs_type asks for */

/* "commit=5": a mount option with a value, beside those that every file system takes
 * (volume/capability.c). */
struct fs_option {
    const char *key;
    unsigned min, max;        /* a number within these; unless there are words */
    const char *const *words; /* or one of these, NULL at the end */
};

#define FS_OPTIONS_MAX 4

struct fs_kind {
    const char *name;                /* in record, capability and mount(2) */
    uint64_t size_min;               /* bytes of the smallest volume, measured: see fskind.c */
    const struct fs_option *options; /* NULL: none */
    size_t n_options;                /* <= FS_OPTIONS_MAX */
};

/* "none" has a row as well. NULL: not one of ours. */
const struct fs_kind *fs_kind_find(const char *name);

#endif

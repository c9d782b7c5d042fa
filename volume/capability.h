/* SPDX-License-Identifier: Apache-2.0 */
/*
 * capability.h: which access modes, file systems and mount flags a Coffer volume supports. Pure
 * rules for both daemons: the controller refuses at Create what the node would refuse at Stage.
 * Plain borrowed inputs (no CSI type crosses into volume/), no heap, thread-safe. Mount flags may
 * be sensitive (CSI spec, VolumeCapability.mount_flags): messages give their position or our own
 * word for them, never text of the caller.
 */
#ifndef COFFER_VOLUME_CAPABILITY_H
#define COFFER_VOLUME_CAPABILITY_H

#include "common/base.h"
#include "common/error.h"

/* The numbers of CSI's VolumeCapability.AccessMode.Mode. */
enum capability_mode {
    CAPABILITY_SINGLE_NODE_WRITER = 1,
    CAPABILITY_SINGLE_NODE_READER_ONLY = 2,
    CAPABILITY_MULTI_NODE_READER_ONLY = 3,
    CAPABILITY_MULTI_NODE_SINGLE_WRITER = 4,
    CAPABILITY_MULTI_NODE_MULTI_WRITER = 5,
    CAPABILITY_SINGLE_NODE_SINGLE_WRITER = 6,
    CAPABILITY_SINGLE_NODE_MULTI_WRITER = 7,
};

struct capability {
    bool block;                     /* raw block; else mount */
    unsigned mode;                  /* enum capability_mode, or any other number (refused) */
    const char *fs_type;            /* "" = the default; mount only */
    const char *const *mount_flags; /* mount only */
    size_t n_mount_flags;
    const char *mount_group; /* "" or NULL = none; anything else is refused */
};

/* ERR_INVALID with one sentence when the volume can't be used in that way. */
int capability_check(const struct capability *c, struct error *err) MUST_CHECK;

/* What struct record's `fs` holds: a name of fskind.h, static. Only for a checked capability. */
const char *capability_fs(const struct capability *c);

/* The mode allows no write. */
bool capability_mode_read_only(unsigned mode);

/* The mode's CSI name; "UNKNOWN" for any other number. */
const char *capability_mode_name(unsigned mode);

/* The checked mount flags for mount(2): MS_ bits, and the file system's own options as its data
 * string. */
struct capability_mount {
    unsigned long flags;
    char data[64];
};
/* For a volume that holds `fs` (fskind.h): which flags there are depends on it. */
int capability_mount_options(const struct capability *c, const char *fs,
                             struct capability_mount *ret, struct error *err) MUST_CHECK;

#endif

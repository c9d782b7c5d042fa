/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl/host_mount.h: what mount, unmount, expand and delete share. The volume's lock is held.
 */
#ifndef COFFER_COFFERCTL_HOST_MOUNT_H
#define COFFER_COFFERCTL_HOST_MOUNT_H

#include "common/base.h"
#include "cofferctl/host_call.h"

/* NodeUnpublishVolume at path (NULL: at all places); a mount point that was there before us is made
 * again; with the last place NodeUnstageVolume; and only then are the places forgotten, so that the
 * same call finds them after a kill. */
int host_unmount(const struct host *h, struct host_volume *v, const char *path,
                 struct error *err) MUST_CHECK;

/* Where the volume is mounted now, for a call that wants such a path: a target, else the staging
 * path; "" when it isn't mounted. */
int host_mounted_at(const struct host *h, const struct host_volume *v, char ret[HOST_PATH_MAX],
                    struct error *err) MUST_CHECK;

#endif

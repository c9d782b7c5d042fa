/* SPDX-License-Identifier: Apache-2.0 */
/*
 * root.h: what a VM sees of files: a small read-only tmpfs with /usr and the configured folders
 * (read-only), a few files in /etc, /proc with processes alone, a /dev of five devices, /tmp, and
 * its volume at /personalcloud. For the process that becomes a VM's init: in a mount namespace of
 * its own, process 1 of its pid namespace, still with the host's root rights, which it uses so that
 * nothing of this can be undone by whoever has fewer.
 */
#ifndef COFFER_LAUNCH_ROOT_H
#define COFFER_LAUNCH_ROOT_H

#include "common/base.h"
#include "common/error.h"
#include "launch/config.h"

/* `over`: a directory of the host's that may be covered meanwhile. volume: from vm_volume_mount.
 * Afterwards nothing of the host's mounts is left in this namespace, nor can be reached. */
int root_enter(const char *over, int volume, const struct launch_config *c,
               struct error *err) MUST_CHECK;

#endif

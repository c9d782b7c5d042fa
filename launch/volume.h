/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volume.h: a VM's volume: it must be mounted where it is to be, nodev and nosuid, from a dm-crypt
 * device of Coffer's; and as the VM sees it, every file of the VM's user is user 1000's on disk,
 * whoever that is on this host, and no other user's can be made.
 */
#ifndef COFFER_LAUNCH_VOLUME_H
#define COFFER_LAUNCH_VOLUME_H

#include "common/base.h"
#include "common/error.h"

#include <sys/types.h>

#define VM_USER 1000u /* inside the VM, and on disk */

/* Opens the volume's mount, after all of it was checked; the descriptor is what was checked.
 * ERR_PRECONDITION names what is not so. any: it may be on any device. */
int vm_volume_open(const char *volumes, const char *id, bool any, int *ret_fd,
                   struct error *err) MUST_CHECK;
/* The root folder of a new file system becomes the VM's. */
int volume_give(int fd, struct error *err) MUST_CHECK;
/* A mount of it that is attached to nothing yet, with the users of that user namespace. */
int vm_volume_mount(int fd, int userns_fd, int *ret_fd, struct error *err) MUST_CHECK;
/* For tests: whether a device-mapper uuid is one of Coffer's mappings. */
bool volume_dm_uuid_ours(const char *uuid);

#endif

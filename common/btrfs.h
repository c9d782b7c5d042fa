/* SPDX-License-Identifier: Apache-2.0 */
/*
 * btrfs.h: which block device a mounted btrfs lies on. Its files and its line in mountinfo
 * have a number that belongs to no device, so the kernel is asked by ioctl for the file system's id
 * and sysfs (/sys/fs/btrfs/ID/devices) for what is below it.
 */
#ifndef COFFER_COMMON_BTRFS_H
#define COFFER_COMMON_BTRFS_H

#include "common/base.h"
#include "common/error.h"

#include <linux/btrfs.h>
#include <sys/types.h>

/* fd: any file or directory on it. ERR_DATA_LOSS when it spans several devices. */
int btrfs_device(int fd, dev_t *ret, struct error *err) MUST_CHECK;
/* Its only device, as btrfs itself sees it (devid, total_bytes). */
int btrfs_device_info(int fd, struct btrfs_ioctl_dev_info_args *ret, struct error *err) MUST_CHECK;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/filesystem.h"

#include "common/btrfs.h"

#include <errno.h>
#include <sys/ioctl.h>

#define PACKAGE "btrfs-progs"

/* struct btrfs_super_block, little-endian (linux/btrfs_tree.h); its dev_item is this device */
#define SUPER_AT       65536u
#define SUPER_LEN      4096u
#define AT_MAGIC       0x40
#define AT_NUM_DEVICES 0x88
#define AT_DEV_BYTES   0xd1

/* What newer mkfs versions would choose otherwise is named. 4096 also where pages are larger.
 * Metadata twice: one bad sector shall not take the file system. -K: no discard, the image is
 * reserved space. -f: what dm-crypt makes of unwritten sectors is noise, and noise may look like
 * anything. A clone can get a uuid of its own later (metadata_uuid). */
static int btrfs_make(const struct fs_device *d, struct error *err)
{
    const char *const argv[] = { "/sbin/mkfs.btrfs",
                                 "-q",
                                 "-f",
                                 "-K",
                                 "-s",
                                 "4096",
                                 "-n",
                                 "16384",
                                 "-m",
                                 "dup",
                                 "-d",
                                 "single",
                                 "--csum",
                                 "crc32c",
                                 d->path,
                                 NULL };

    return filesystem_run_ok(argv, PACKAGE, d->lock_fd, FILESYSTEM_MAKE_MS, err);
}

/* Only reads: the log is replayed by the mount, also by a read-only one. `btrfs check` isn't run
 * before each mount (it reads all metadata), and `btrfs check --repair` never is: its own manual
 * warns of it. What else may be wrong with the superblock the mount looks at. */
static int btrfs_check(const struct fs_device *d, struct error *err)
{
    unsigned char sb[SUPER_LEN];

    if (filesystem_read(d->fd, sb, sizeof(sb), SUPER_AT, err) < 0)
        return -1;
    if (memcmp(sb + AT_MAGIC, "_BHRfS_M", 8) != 0)
        return error_set(err, ERR_DATA_LOSS, "the btrfs superblock is not one");
    if (fs_le64(sb + AT_NUM_DEVICES) != 1)
        return error_set(err, ERR_DATA_LOSS, "the btrfs spans %llu devices: a volume is one device",
                         (unsigned long long)fs_le64(sb + AT_NUM_DEVICES));
    return filesystem_fits(d, fs_le64(sb + AT_DEV_BYTES), err);
}

static int btrfs_size(const struct fs_device *d UNUSED, int mount_fd, uint64_t *ret,
                      struct error *err)
{
    struct btrfs_ioctl_dev_info_args dev;

    if (btrfs_device_info(mount_fd, &dev, err) < 0)
        return -1;
    *ret = dev.total_bytes;
    return 0;
}

/* By ioctl, not the btrfs program: that takes a path, this has the mount open. A positive answer
 * says that another exclusive operation runs. */
static int btrfs_grow(const struct fs_device *d UNUSED, int mount_fd, uint64_t bytes,
                      struct error *err)
{
    struct btrfs_ioctl_dev_info_args dev;
    struct btrfs_ioctl_vol_args args = { .fd = 0 };

    if (btrfs_device_info(mount_fd, &dev, err) < 0)
        return -1;
    (void)snprintf(args.name, sizeof(args.name), "%llu:%llu", (unsigned long long)dev.devid,
                   (unsigned long long)bytes);
    int r = ioctl(mount_fd, BTRFS_IOC_RESIZE, &args);
    if (r > 0)
        return error_set(err, ERR_ABORTED,
                         "the btrfs is busy with another operation (balance, replace)");
    return r == 0
               ? 0
               : error_errno(err, errno, "grow the btrfs to %llu bytes", (unsigned long long)bytes);
}

/* No global device scan is ever made, and only the device named is asked for. All the same the
 * kernel takes every device it has seen (a host's udev scans each new one) into a file system whose
 * id it carries, and prefers the newest superblock: a tenant who copies another's id onto his raw
 * block volume would be mounted in his place. So btrfs_check refuses what spans devices, and
 * filesystem_verify looks at what was mounted before anybody can see it.
 * subvolid=5: the top level, whatever default subvolume was set inside. */
const struct filesystem filesystem_btrfs = {
    .name = "btrfs",
    .mount_type = "btrfs",
    .mount_data = "subvolid=5",
    .mount_sparse = "",
    .mount_discard = "discard=async",
    .look = "btrfs check --readonly",
    .advice = "That only looks; ask before btrfs check --repair, it may make things worse",
    .make = btrfs_make,
    .check = btrfs_check,
    .device = btrfs_device,
    .size = btrfs_size,
    .grow = btrfs_grow,
};

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/btrfs.h"

#include "common/fs.h"
#include "common/parse.h"

#include <dirent.h>
#include <errno.h>
#include <sys/ioctl.h>

#define DEVID_MAX                                                                   \
    4096u /* ids are given away once: somebody would have replaced devices for long \
           */

static int file_system_info(int fd, struct btrfs_ioctl_fs_info_args *ret, struct error *err)
{
    memset(ret, 0, sizeof(*ret));
    if (ioctl(fd, BTRFS_IOC_FS_INFO, ret) < 0)
        return error_errno(err, errno, "ask btrfs what it is");
    if (ret->num_devices != 1)
        return error_set(err, ERR_DATA_LOSS, "the btrfs spans %llu devices: a volume is one device",
                         (unsigned long long)ret->num_devices);
    return 0;
}

static void devices_path(const unsigned char id[16], char *ret, size_t size)
{
    char hex[33];

    for (size_t i = 0; i < 16; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", id[i]);
    (void)snprintf(ret, size, "/sys/fs/btrfs/%.8s-%.4s-%.4s-%.4s-%.12s/devices", hex, hex + 8,
                   hex + 12, hex + 16, hex + 20);
}

static int read_number(const char *dir, const char *name, dev_t *ret, struct error *err)
{
    char path[400], text[32];

    (void)snprintf(path, sizeof(path), "%s/%.255s/dev", dir, name);
    if (fs_read_line(path, text, sizeof(text), err) < 0)
        return -1;
    return parse_dev(text, ret) == 0
               ? 0
               : error_set(err, ERR_INTERNAL, "'%s' holds no device number", path);
}

static int only_device(DIR *dir, const char *path, dev_t *ret, struct error *err)
{
    const struct dirent *e;
    unsigned n = 0;
    dev_t dev = 0;

    for (errno = 0; (e = readdir(dir)) != NULL; errno = 0) {
        if (e->d_name[0] == '.')
            continue;
        if (read_number(path, e->d_name, &dev, err) < 0)
            return -1;
        n++;
    }
    if (errno != 0)
        return error_errno(err, errno, "read directory '%s'", path);
    if (n != 1)
        return error_set(err, ERR_DATA_LOSS, "'%s' shows %u devices: a volume is one device", path,
                         n);
    *ret = dev;
    return 0;
}

int btrfs_device(int fd, dev_t *ret, struct error *err)
{
    struct btrfs_ioctl_fs_info_args info;
    char path[128];

    if (file_system_info(fd, &info, err) < 0)
        return -1;
    devices_path(info.fsid, path, sizeof(path));
    DIR *dir = opendir(path);
    if (dir == NULL)
        return error_errno(err, errno, "read directory '%s'", path);
    int r = only_device(dir, path, ret, err);
    (void)closedir(dir);
    return r;
}

int btrfs_device_info(int fd, struct btrfs_ioctl_dev_info_args *ret, struct error *err)
{
    struct btrfs_ioctl_fs_info_args info;

    if (file_system_info(fd, &info, err) < 0)
        return -1;
    for (uint64_t id = 1; id <= info.max_id && id <= DEVID_MAX; id++) {
        struct btrfs_ioctl_dev_info_args dev = { .devid = id };

        if (ioctl(fd, BTRFS_IOC_DEV_INFO, &dev) == 0) {
            *ret = dev;
            return 0;
        }
        if (errno != ENODEV)
            return error_errno(err, errno, "ask btrfs for its device %llu", (unsigned long long)id);
    }
    return error_set(err, ERR_INTERNAL, "btrfs names no device of its own");
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/mapper.h"

#include "common/blockdev.h"
#include "common/cleanup.h"
#include "common/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

int mapper_find(const char *dm_name, struct live_mapping *ret, struct error *err)
{
    struct live_mapping m = { .dev = 0 };
    struct dm_device d;

    if (dm_device_find(dm_name, &d, err) < 0)
        return -1;
    if (str_copy(m.dm_uuid, sizeof(m.dm_uuid), d.uuid) < 0)
        return error_set(err, ERR_INTERNAL, "mapping '%s' has a dm uuid that is not ours: '%s'",
                         dm_name, d.uuid);
    m.dev = d.dev;
    m.size = d.size;
    m.read_only = d.read_only;
    *ret = m;
    return 0;
}

int mapper_check_uuid(const struct live_mapping *m, const char *dm_name, const char *uuid,
                      struct error *err)
{
    char live[37];

    if (volume_uuid_from_dm(m->dm_uuid, dm_name, live) == 0 && strcmp(live, uuid) == 0)
        return 0;
    return error_set(err, ERR_DATA_LOSS, "the live mapping isn't the volume that the record names");
}

int mapper_is_ours(dev_t dev, struct error *err)
{
    struct error local = ERROR_INIT;
    char name[256];

    if (blockdev_line(dev, "dm/name", name, sizeof(name), &local) == 0)
        return strncmp(name, "coffer-", 7) == 0 ? 1 : 0;
    return local.sys_errno == ENOENT || blockdev_is_gone(&local) ? 0 : error_pass(err, &local);
}

/* The number's name and uuid in sysfs are the ones meant: a number can be re-used by another
 * volume. */
static int check_number(dev_t dev, const char *dm_name, const char *dm_uuid, struct error *err)
{
    char name[256], uuid[256];

    if (blockdev_line(dev, "dm/name", name, sizeof(name), err) < 0 ||
        blockdev_line(dev, "dm/uuid", uuid, sizeof(uuid), err) < 0)
        return -1;
    if (strcmp(name, dm_name) != 0 || strcmp(uuid, dm_uuid) != 0)
        return error_set(err, ERR_ABORTED, "device %u:%u is no longer mapping '%s'", major(dev),
                         minor(dev), dm_name);
    return 0;
}

static int make_node(int dir, const char *name, dev_t dev, struct error *err)
{
    struct stat st;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        if (S_ISBLK(st.st_mode) && st.st_rdev == dev)
            return 0;
        if (unlinkat(dir, name, 0) < 0)
            return error_errno(err, errno, "remove stale device node '%s'", name);
    }
    if (mknodat(dir, name, S_IFBLK | 0600, dev) < 0)
        return error_errno(err, errno, "make device node '%s'", name);
    return 0;
}

static int open_checked(int dir, const char *name, dev_t dev, bool writable, int *ret,
                        struct error *err)
{
    int flags = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    AUTO_CLOSE int fd = openat(dir, name, flags);
    struct stat st;

    if (fd < 0)
        return error_errno(err, errno, "open device node '%s'", name);
    if (fstat(fd, &st) < 0 || !S_ISBLK(st.st_mode) || st.st_rdev != dev)
        return error_set(err, ERR_ABORTED, "device node '%s' changed while it was opened", name);
    *ret = TAKE_FD(fd);
    return 0;
}

/* mounts.h knows a target's device node by these file systems; on a disk it would outlive a reboot.
 */
static int check_directory(int dir, const char *path, struct error *err)
{
    struct statfs st;

    if (fstatfs(dir, &st) < 0)
        return error_errno(err, errno, "look at --device-dir '%s'", path);
    if ((st.f_type != TMPFS_MAGIC && st.f_type != RAMFS_MAGIC) || (st.f_flags & ST_NODEV) != 0)
        return error_set(err, ERR_PRECONDITION,
                         "--device-dir '%s' must be on a devtmpfs or tmpfs that allows devices",
                         path);
    return 0;
}

int mapper_node_open(const char *device_dir, const char *dm_name, const char *dm_uuid, dev_t dev,
                     bool writable, struct mapper_node *ret, struct error *err)
{
    AUTO_CLOSE int dir = -1, fd = -1;

    if (fs_mkdir_p(device_dir, 0700, err) < 0 || fs_open_dir(device_dir, &dir, err) < 0 ||
        check_directory(dir, device_dir, err) < 0)
        return -1;
    if (make_node(dir, dm_name, dev, err) < 0 ||
        open_checked(dir, dm_name, dev, writable, &fd, err) < 0 ||
        check_number(dev, dm_name, dm_uuid, err) < 0)
        return -1;
    if (snprintf(ret->path, sizeof(ret->path), "%s/%s", device_dir, dm_name) >=
        (int)sizeof(ret->path))
        return error_set(err, ERR_INVALID, "--device-dir '%s' is too long", device_dir);
    ret->fd = TAKE_FD(fd);
    return 0;
}

void mapper_node_close(struct mapper_node *n)
{
    cleanup_close(&n->fd);
    n->fd = -1;
}

void mapper_node_unlink(const char *device_dir, const char *dm_name)
{
    char path[256];

    if (snprintf(path, sizeof(path), "%s/%s", device_dir, dm_name) < (int)sizeof(path))
        (void)unlink(path); /* a node left behind is checked before it is used again */
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/blockdev.h"

#include "common/fs.h"
#include "common/parse.h"

#include <dirent.h>
#include <errno.h>
#include <sys/sysmacros.h>
#include <unistd.h>

void blockdev_text(dev_t dev, char ret[DEV_TEXT_SIZE])
{
    (void)snprintf(ret, DEV_TEXT_SIZE, "%u:%u", major(dev), minor(dev));
}

static void path_of(dev_t dev, const char *file, char *ret, size_t size)
{
    (void)snprintf(ret, size, "/sys/dev/block/%u:%u/%.64s", major(dev), minor(dev), file);
}

bool blockdev_present(dev_t dev)
{
    char path[128];

    path_of(dev, "", path, sizeof(path));
    return access(path, F_OK) == 0;
}

bool blockdev_has_holders(dev_t dev)
{
    char path[128];
    const struct dirent *e;
    bool found = false;

    path_of(dev, "holders", path, sizeof(path));
    DIR *dir = opendir(path);
    if (dir == NULL)
        return errno != ENOENT;
    while (errno = 0, !found && (e = readdir(dir)) != NULL)
        found = e->d_name[0] != '.';
    found = found || errno != 0;
    (void)closedir(dir);
    return found;
}

int blockdev_line(dev_t dev, const char *file, char *ret, size_t size, struct error *err)
{
    char path[128];

    path_of(dev, file, path, sizeof(path));
    return fs_read_line(path, ret, size, err);
}

/* ---- device-mapper by name ---- */

/* Its files are gone; or they are there and it is being removed: from then on, and for good, the
 * kernel answers EIO (it has lost its name), then EINVAL (no device for that kobject any more:
 * drivers/md/dm-sysfs.c). */
static bool went_away(const struct error *e)
{
    return e->sys_errno == ENOENT || e->sys_errno == ENODEV || e->sys_errno == EINVAL ||
           e->sys_errno == EIO;
}

bool blockdev_is_gone(const struct error *e)
{
    return went_away(e) && access("/sys/dev/block", F_OK) == 0;
}

/* A missing list isn't an empty one: never ERR_NOT_FOUND. */
static int open_list(DIR **ret, struct error *err)
{
    *ret = opendir("/sys/block");
    if (*ret != NULL)
        return 0;
    (void)error_errno(err, errno, "open '/sys/block'");
    return error_recode(err, ERR_INTERNAL);
}

static int sysfs_line(const char *block, const char *file, char *ret, size_t size,
                      struct error *err)
{
    char path[320];

    if (snprintf(path, sizeof(path), "/sys/block/%s/%s", block, file) >= (int)sizeof(path))
        return error_set(err, ERR_INTERNAL, "block device name '%s' is too long", block);
    return fs_read_line(path, ret, size, err);
}

/* 0: here it is. 1: it went away meanwhile. */
static int read_device(const char *block, struct dm_device *ret, struct error *err)
{
    struct error local = ERROR_INIT;
    char dev[32], sectors[32], ro[8];
    struct dm_device d = { .dev = 0 };
    uint64_t n;

    if (sysfs_line(block, "dm/uuid", d.uuid, sizeof(d.uuid), &local) < 0 ||
        sysfs_line(block, "dev", dev, sizeof(dev), &local) < 0 ||
        sysfs_line(block, "size", sectors, sizeof(sectors), &local) < 0 ||
        sysfs_line(block, "ro", ro, sizeof(ro), &local) < 0)
        return went_away(&local) ? 1 : error_pass(err, &local);
    if (parse_dev(dev, &d.dev) < 0 || parse_u64(sectors, &n) < 0)
        return error_set(err, ERR_INTERNAL, "sysfs of '%s' isn't readable as numbers", block);
    d.size = n * 512;
    d.read_only = strcmp(ro, "1") == 0;
    *ret = d;
    return 0;
}

/* 1: that device has the name. 0: it hasn't, or went away meanwhile. -1: nobody can say. */
static int has_name(const char *block, const char *dm_name, struct error *err)
{
    struct error local = ERROR_INIT;
    char name[256];

    if (strncmp(block, "dm-", 3) != 0)
        return 0;
    if (sysfs_line(block, "dm/name", name, sizeof(name), &local) == 0)
        return strcmp(name, dm_name) == 0 ? 1 : 0;
    return went_away(&local) ? 0 : error_pass(err, &local);
}

/* 0: found. 1: there is none. A list that can't be read to its end says nothing. */
static int search(DIR *dir, const char *dm_name, struct dm_device *ret, struct error *err)
{
    const struct dirent *e;

    for (errno = 0; (e = readdir(dir)) != NULL; errno = 0) {
        int r = has_name(e->d_name, dm_name, err);

        if (r != 0)
            return r < 0 ? -1 : read_device(e->d_name, ret, err);
    }
    return errno != 0 ? error_errno(err, errno, "read directory '/sys/block'") : 1;
}

int dm_device_find(const char *dm_name, struct dm_device *ret, struct error *err)
{
    DIR *dir;

    if (open_list(&dir, err) < 0)
        return -1;
    int r = search(dir, dm_name, ret, err);
    (void)closedir(dir);
    if (r == 1)
        return error_set(err, ERR_NOT_FOUND, "there is no mapping '%s'", dm_name);
    return r;
}

/* 1: it is one, here it is. 0: it is none, or went away meanwhile. */
static int read_name(const char *block, char *ret_name, size_t size, dev_t *ret, struct error *err)
{
    struct error local = ERROR_INIT;
    char dev[32];

    if (strncmp(block, "dm-", 3) != 0)
        return 0;
    if (sysfs_line(block, "dm/name", ret_name, size, &local) < 0 ||
        sysfs_line(block, "dev", dev, sizeof(dev), &local) < 0)
        return went_away(&local) ? 0 : error_pass(err, &local);
    if (parse_dev(dev, ret) < 0)
        return error_set(err, ERR_INTERNAL, "sysfs of '%s' isn't readable as numbers", block);
    return 1;
}

static int each_device(DIR *dir, dm_device_cb *cb, void *ctx, struct error *err)
{
    const struct dirent *e;
    char name[256];
    dev_t dev;

    for (errno = 0; (e = readdir(dir)) != NULL; errno = 0) {
        int r = read_name(e->d_name, name, sizeof(name), &dev, err);

        if (r < 0)
            return -1;
        if (r == 1 && !cb(ctx, name, dev))
            return 0;
    }
    return errno != 0 ? error_errno(err, errno, "read directory '/sys/block'") : 0;
}

int dm_device_each(dm_device_cb *cb, void *ctx, struct error *err)
{
    DIR *dir;

    if (open_list(&dir, err) < 0)
        return -1;
    int r = each_device(dir, cb, ctx, err);
    (void)closedir(dir);
    return r;
}

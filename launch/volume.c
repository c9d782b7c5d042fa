/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/volume.h"

#include "common/blockdev.h"
#include "common/cleanup.h"
#include "common/fs.h"
#include "common/mountinfo.h"
#include "common/parse.h"
#include "common/strbuf.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define UUID_PREFIX "CRYPT-LUKS2-"
#define NAME_PREFIX "-coffer-"

/* CRYPT-LUKS2-<32 hex>-coffer-... : cryptsetup writes uuid and name, and every name of ours begins
 * so (volume/id.h). */
bool volume_dm_uuid_ours(const char *uuid)
{
    size_t at = strlen(UUID_PREFIX);
    char hex[33];

    if (strncmp(uuid, UUID_PREFIX, at) != 0 || strlen(uuid) < at + 32 + strlen(NAME_PREFIX))
        return false;
    memcpy(hex, uuid + at, 32);
    hex[32] = '\0';
    return hex_lower_valid(hex, 32) &&
           strncmp(uuid + at + 32, NAME_PREFIX, strlen(NAME_PREFIX)) == 0;
}

/* btrfs shows numbers of its own: what it lies on is told by its source. */
static int device_of(const struct mount_entry *entry, dev_t *ret, struct error *err)
{
    struct stat st;

    *ret = entry->dev;
    if (strcmp(entry->fs_type, "btrfs") != 0)
        return 0;
    if (stat(entry->source, &st) < 0 || !S_ISBLK(st.st_mode) || !mount_lies_on(entry, st.st_rdev))
        return error_set(err, ERR_PRECONDITION, "the device below '%s' isn't known", entry->point);
    *ret = st.st_rdev;
    return 0;
}

static int check_device(const struct mount_entry *entry, struct error *err)
{
    struct error e = ERROR_INIT;
    char uuid[160];
    dev_t dev;

    if (device_of(entry, &dev, err) < 0)
        return -1;
    int r = blockdev_line(dev, "dm/uuid", uuid, sizeof(uuid), &e);
    if (r < 0 && e.code == ERR_EXHAUSTED) /* nobody can say */
        return error_pass(err, &e);
    if (r < 0 || !volume_dm_uuid_ours(uuid))
        return error_set(err, ERR_PRECONDITION, "what is mounted at '%s' is no volume of Coffer's",
                         entry->point);
    return 0;
}

static int check_mount(int fd, const char *path, bool any, struct error *err)
{
    AUTO_MOUNT_TABLE struct mount_table table = { .n = 0 };
    const struct mount_entry *entry;
    struct statx stx;
    struct statvfs vfs;

    if (mount_table_load(&table, err) < 0)
        return -1;
    entry = mount_table_at(&table, path);
    if (entry == NULL || strcmp(entry->root, "/") != 0)
        return error_set(err, ERR_PRECONDITION, "no volume is mounted at '%s'", path);
    if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID | STATX_TYPE, &stx) < 0 || fstatvfs(fd, &vfs) < 0)
        return error_errno(err, errno, "look at '%s'", path);
    if (stx.stx_mnt_id != entry->id || !S_ISDIR(stx.stx_mode))
        return error_set(err, ERR_ABORTED, "the mount at '%s' has just changed", path);
    if ((vfs.f_flag & (ST_NODEV | ST_NOSUID)) != (ST_NODEV | ST_NOSUID))
        return error_set(err, ERR_PRECONDITION, "'%s' is not mounted nodev,nosuid", path);
    return any ? 0 : check_device(entry, err);
}

int vm_volume_open(const char *volumes, const char *id, bool any, int *ret_fd, struct error *err)
{
    AUTO_STRBUF struct strbuf path = STRBUF_INIT(4096);
    AUTO_CLOSE int fd = -1;
    struct error e = ERROR_INIT;

    strbuf_addf(&path, "%s/%s/volume", volumes, id);
    if (strbuf_check(&path, "volume's path", err) < 0)
        return -1;
    if (fs_open_path(strbuf_text(&path), &fd, &e) < 0) {
        (void)error_pass(err, &e);
        return e.code == ERR_NOT_FOUND ? error_recode(err, ERR_PRECONDITION) : -1;
    }
    if (check_mount(fd, strbuf_text(&path), any, err) < 0)
        return -1;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int volume_give(int fd, struct error *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return error_errno(err, errno, "look at the volume");
    if (st.st_uid == VM_USER && st.st_gid == VM_USER)
        return 0;
    if (fchownat(fd, "", VM_USER, VM_USER, AT_EMPTY_PATH) < 0)
        return error_errno(err, errno, "give the volume to its user");
    return 0;
}

int vm_volume_mount(int fd, int userns_fd, int *ret_fd, struct error *err)
{
    struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
                               .propagation = MS_PRIVATE,
                               .userns_fd = (unsigned)userns_fd };
    AUTO_CLOSE int tree = open_tree(fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

    if (tree < 0)
        return error_errno(err, errno, "clone the volume's mount");
    int r = mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr));
    if (r < 0 && errno == EINVAL)
        return error_set(err, ERR_PRECONDITION,
                         "this kernel can't map the users of the volume's file system");
    if (r < 0)
        return error_errno(err, errno, "map the users of the volume's mount");
    *ret_fd = TAKE_FD(tree);
    return 0;
}

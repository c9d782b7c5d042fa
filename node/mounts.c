/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/mounts.h"

#include "common/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static int configure(int fs_fd, unsigned cmd, const char *key, const char *value, struct error *err)
{
    char text[256] = "";

    if (fsconfig(fs_fd, cmd, key, value, 0) == 0)
        return 0;
    int saved = errno;
    ssize_t n = read(fs_fd, text, sizeof(text) - 1); /* the kernel's own words, "e <message>" */
    if (n > 2)
        return error_errno(err, saved, "%s (%.*s)", key != NULL ? key : "mount", (int)n - 2,
                           text + 2);
    return error_errno(err, saved, "mount option '%s'", key != NULL ? key : "create");
}

static int configure_option(int fs_fd, const char *option, size_t len, struct error *err)
{
    char text[64];

    if (len >= sizeof(text))
        return error_set(err, ERR_INVALID, "mount option '%.*s' is too long", (int)len, option);
    memcpy(text, option, len);
    text[len] = '\0';
    char *eq = strchr(text, '=');
    if (eq == NULL)
        return configure(fs_fd, FSCONFIG_SET_FLAG, text, NULL, err);
    *eq = '\0';
    return configure(fs_fd, FSCONFIG_SET_STRING, text, eq + 1, err);
}

static int configure_data(int fs_fd, const char *data, struct error *err)
{
    while (*data != '\0') {
        size_t len = strcspn(data, ",");
        if (len > 0 && configure_option(fs_fd, data, len, err) < 0)
            return -1;
        data += len + (data[len] == ',' ? 1 : 0);
    }
    return 0;
}

/* mount(2)'s bits that the new API takes as options of the super block, and as attributes of the
 * mount. */
static const struct {
    unsigned long bit;
    const char *option;
} super_flags[] = {
    { MS_SYNCHRONOUS, "sync" },
    { MS_DIRSYNC, "dirsync" },
    { MS_LAZYTIME, "lazytime" },
};
static const struct {
    unsigned long bit;
    unsigned attribute;
} mount_flags[] = {
    { MS_NOATIME, MOUNT_ATTR_NOATIME },
    { MS_NODIRATIME, MOUNT_ATTR_NODIRATIME },
    { MS_NOEXEC, MOUNT_ATTR_NOEXEC },
    { MS_RDONLY, MOUNT_ATTR_RDONLY },
};

static int configure_all(int fs_fd, const char *device, const struct mount_options *o,
                         struct error *err)
{
    if (configure(fs_fd, FSCONFIG_SET_STRING, "source", device, err) < 0)
        return -1;
    if (o->read_only && configure(fs_fd, FSCONFIG_SET_FLAG, "ro", NULL, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_SIZE(super_flags); i++)
        if ((o->flags & super_flags[i].bit) != 0 &&
            configure(fs_fd, FSCONFIG_SET_FLAG, super_flags[i].option, NULL, err) < 0)
            return -1;
    if (configure_data(fs_fd, o->data, err) < 0)
        return -1;
    return configure(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, err);
}

static unsigned attributes(const struct mount_options *o)
{
    unsigned attr = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | (o->read_only ? MOUNT_ATTR_RDONLY : 0) |
                    (o->no_symlinks ? MOUNT_ATTR_NOSYMFOLLOW : 0);

    for (size_t i = 0; i < ARRAY_SIZE(mount_flags); i++)
        if ((o->flags & mount_flags[i].bit) != 0)
            attr |= mount_flags[i].attribute;
    return attr;
}

int mount_attach(int mount_fd, const char *target, struct error *err)
{
    AUTO_CLOSE int target_fd = -1;

    if (fs_open_path(target, &target_fd, err) < 0)
        return -1;
    if (move_mount(mount_fd, "", target_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) <
        0)
        return error_errno(err, errno, "mount at '%s'", target);
    return 0;
}

int mount_make(const char *fs_type, const char *device, const struct mount_options *o, int *ret_fd,
               struct error *err)
{
    AUTO_CLOSE int fs_fd = fsopen(fs_type, FSOPEN_CLOEXEC);

    if (fs_fd < 0 && errno == ENODEV)
        return error_set(err, ERR_PRECONDITION, "this node's kernel has no %s: load its module",
                         fs_type);
    if (fs_fd < 0)
        return error_errno(err, errno, "fsopen '%s'", fs_type);
    if (configure_all(fs_fd, device, o, err) < 0)
        return error_prefix(err, "mount %s", fs_type);
    int mount_fd = fsmount(fs_fd, FSMOUNT_CLOEXEC, attributes(o));
    if (mount_fd < 0)
        return error_errno(err, errno, "fsmount %s", fs_type);
    *ret_fd = mount_fd;
    return 0;
}

int mount_bind(const char *source, const char *target, bool read_only, struct error *err)
{
    AUTO_CLOSE int source_fd = -1;

    if (fs_open_path(source, &source_fd, err) < 0)
        return -1;
    AUTO_CLOSE int tree =
        open_tree(source_fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    if (tree < 0)
        return error_errno(err, errno, "open_tree '%s'", source);
    struct mount_attr attr = {
        .attr_set = MOUNT_ATTR_NOSUID | (read_only ? MOUNT_ATTR_RDONLY : 0),
        .attr_clr = MOUNT_ATTR_NOSYMFOLLOW,
    };
    if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
        return error_errno(err, errno, "mount_setattr for '%s'", target);
    return mount_attach(tree, target, err);
}

int mount_remove(const char *target, struct error *err)
{
    if (umount2(target, UMOUNT_NOFOLLOW) == 0)
        return 0;
    return error_errno(err, errno, "unmount '%s'", target);
}

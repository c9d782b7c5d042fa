/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/root.h"

#include "common/cleanup.h"
#include "common/fs.h"
#include "launch/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define TMP_SHARE 2u /* /tmp may take this part of the memory: it counts as memory of the VM's */

/* All paths are relative: the working directory is the new root. */

static const char *const directories[] = { "usr", "etc", "proc", "dev", "tmp", "personalcloud" };

/* Programs and libraries are in /usr alone since Debian 12. */
static const char *const usr_links[] = { "bin", "sbin", "lib", "lib64", "lib32", "libx32" };

static const struct {
    const char *path, *text;
} files[] = {
    { "etc/passwd", "personalcloud:x:1000:1000::/personalcloud:/usr/sbin/nologin\n" },
    { "etc/group", "personalcloud:x:1000:\n" },
    { "etc/hosts", "127.0.0.1 localhost\n::1 localhost\n" },
    { "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n" },
};

static const struct {
    const char *path;
    unsigned minor;
} devices[] = {
    { "dev/null", 3 },   { "dev/zero", 5 },    { "dev/full", 7 },
    { "dev/random", 8 }, { "dev/urandom", 9 },
};

static const struct {
    const char *path, *to;
} dev_links[] = {
    { "dev/fd", "/proc/self/fd" },
    { "dev/stdin", "/proc/self/fd/0" },
    { "dev/stdout", "/proc/self/fd/1" },
    { "dev/stderr", "/proc/self/fd/2" },
};

static int mount_new(const char *type, const char *path, unsigned long flags, const char *data,
                     struct error *err)
{
    if (mount(type, path, type, flags | MS_NOSUID, data) < 0)
        return error_errno(err, errno, "mount the VM's /%s", path);
    return 0;
}

static int make_read_only(const char *path, struct error *err)
{
    struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };

    if (mount_setattr(AT_FDCWD, path, 0, &attr, sizeof(attr)) < 0)
        return error_errno(err, errno, "make the VM's '%s' read-only", path);
    return 0;
}

/* A file or directory of the host's, read-only, without what is mounted below it. `must`: it has
 * to be there. */
static int show(const char *from, const char *to, bool must, struct error *err)
{
    struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
                               .propagation = MS_PRIVATE };
    AUTO_CLOSE int tree = open_tree(AT_FDCWD, from, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

    if (tree < 0 && errno == ENOENT && !must)
        return 0;
    if (tree < 0)
        return error_errno(err, errno, "open '%s' for the VM", from);
    if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0 ||
        move_mount(tree, "", AT_FDCWD, to, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return error_errno(err, errno, "show the VM '%s'", from);
    return 0;
}

static int write_file(const char *path, const char *text, struct error *err)
{
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    if (fd < 0)
        return error_errno(err, errno, "make the VM's /%s", path);
    return fs_write_all(fd, text, strlen(text), path, err);
}

static int fill_skeleton(struct error *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
        if (mkdir(directories[i], 0755) < 0)
            return error_errno(err, errno, "make the VM's /%s", directories[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(usr_links); i++) {
        char path[32];
        (void)snprintf(path, sizeof(path), "/usr/%s", usr_links[i]);
        if (access(path, F_OK) == 0 && symlink(path + 1, usr_links[i]) < 0)
            return error_errno(err, errno, "make the VM's /%s", usr_links[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        if (write_file(files[i].path, files[i].text, err) < 0)
            return -1;
    }
    return 0;
}

/* By the host's root the nodes work, which a user namespace's couldn't make. */
static int fill_dev(struct error *err)
{
    if (mount_new("tmpfs", "dev", MS_NOEXEC, "mode=0755,size=64k,nr_inodes=32", err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
        if (mknod(devices[i].path, S_IFCHR | 0666, makedev(1, devices[i].minor)) < 0)
            return error_errno(err, errno, "make the VM's /%s", devices[i].path);
    }
    for (size_t i = 0; i < ARRAY_SIZE(dev_links); i++) {
        if (symlink(dev_links[i].to, dev_links[i].path) < 0)
            return error_errno(err, errno, "make the VM's /%s", dev_links[i].path);
    }
    return make_read_only("dev", err);
}

static int show_libraries(struct error *err)
{
    if (show("/usr", "usr", true, err) < 0)
        return -1;
    /* the loader's cache, so that libraries outside its default path are found, and what
     * update-alternatives keeps: both are lists of names below /usr */
    if (access("/etc/ld.so.cache", F_OK) == 0 &&
        (write_file("etc/ld.so.cache", "", err) < 0 ||
         show("/etc/ld.so.cache", "etc/ld.so.cache", false, err) < 0))
        return -1;
    if (access("/etc/alternatives", F_OK) == 0 && mkdir("etc/alternatives", 0755) < 0)
        return error_errno(err, errno, "make the VM's /etc/alternatives");
    return show("/etc/alternatives", "etc/alternatives", false, err);
}

static int show_folders(const struct launch_config *c, struct error *err)
{
    for (size_t i = 0; c->folders[i] != NULL; i++) {
        char cwd[256], path[4400];
        if (getcwd(cwd, sizeof(cwd)) == NULL)
            return error_errno(err, errno, "say where the VM's root is");
        (void)snprintf(path, sizeof(path), "%s%s", cwd, c->folders[i]);
        if (fs_mkdir_p(path, 0755, err) < 0 || show(c->folders[i], path, true, err) < 0)
            return -1;
    }
    return 0;
}

static int fill(int volume, const struct launch_config *c, struct error *err)
{
    char tmp[64];

    (void)snprintf(tmp, sizeof(tmp), "mode=1777,size=%llu",
                   (unsigned long long)(c->memory / TMP_SHARE));
    if (fill_skeleton(err) < 0 || show_libraries(err) < 0 || show_folders(c, err) < 0 ||
        mount_new("proc", "proc", MS_NODEV | MS_NOEXEC, "subset=pid", err) < 0 ||
        fill_dev(err) < 0 || mount_new("tmpfs", "tmp", MS_NODEV, tmp, err) < 0)
        return -1;
    if (move_mount(volume, "", AT_FDCWD, "personalcloud", MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return error_errno(err, errno, "mount the VM's volume");
    return 0;
}

int root_enter(const char *over, int volume, const struct launch_config *c, struct error *err)
{
    (void)umask(0); /* modes here are as they are written */
    /* Not private: until the host's mounts are gone from here, one that the host unmounts must go
     * here too, or another VM's volume couldn't be closed. */
    if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
        return error_errno(err, errno, "part from the host's mounts");
    if (mount("coffer-vm", over, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m") < 0 ||
        chdir(over) < 0)
        return error_errno(err, errno, "mount the VM's root");
    if (fill(volume, c, err) < 0)
        return -1;
    if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return error_errno(err, errno, "change to the VM's root");
    return make_read_only("/", err);
}

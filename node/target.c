/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/target.h"

#include "common/btrfs.h"
#include "common/cleanup.h"
#include "common/fs.h"
#include "node/mapper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* The directory that holds the target, and the target's name in it (points into `path`). */
static int open_parent(const char *path, int *ret_fd, const char **ret_name, struct error *err)
{
    const char *name = strrchr(path, '/') + 1;
    size_t len = (size_t)(name - path);
    AUTO_FREE char *parent = strndup(path, len > 1 ? len - 1 : len);

    if (parent == NULL)
        return error_memory(err);
    if (fs_open_path(parent, ret_fd, err) < 0)
        return -1;
    *ret_name = name;
    return 0;
}

/* The device below the file system that the directory is on; btrfs has a number of its own. */
static int device_below(int dir, const struct stat *st, dev_t *ret, struct error *err)
{
    struct statfs fs;
    AUTO_CLOSE int fd = -1;

    *ret = st->st_dev;
    if (fstatfs(dir, &fs) < 0)
        return error_errno(err, errno, "look at a file system");
    if (fs.f_type != BTRFS_SUPER_MAGIC)
        return 0;
    fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* dir itself is O_PATH */
    if (fd < 0)
        return error_errno(err, errno, "open a directory on btrfs");
    struct error local = ERROR_INIT;
    if (btrfs_device(fd, ret, &local) < 0 && local.code != ERR_DATA_LOSS)
        return error_pass(err, &local);
    return 0; /* over several devices: a host's own, never ours */
}

/* dir: an O_PATH descriptor of a directory, as which `path` is named to the caller. */
static int refuse_inside(int dir, const char *path, const char *where, struct error *err)
{
    struct stat st;
    dev_t device;

    if (fstat(dir, &st) < 0)
        return error_errno(err, errno, "look at the directory of '%s'", path);
    if (!S_ISDIR(st.st_mode))
        return error_set(err, ERR_INVALID, "'%s' lies below something that is not a directory",
                         path);
    if (device_below(dir, &st, &device, err) < 0)
        return error_prefix(err, "'%s'", path);
    int ours = mapper_is_ours(device, err);
    if (ours < 0)
        return error_prefix(err, "whose device '%s' is on", path);
    return ours > 0 ? error_set(err, ERR_PRECONDITION, "%s '%s'", where, path) : 0;
}

static int open_place(const char *path, int *ret_fd, const char **ret_name, struct error *err)
{
    AUTO_CLOSE int fd = -1;

    if (open_parent(path, &fd, ret_name, err) < 0 ||
        refuse_inside(fd, path, "a Coffer volume is mounted above", err) < 0)
        return -1;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* CSI's NOT_FOUND speaks of the volume; here it was a directory that the caller owes us. Returns
 * -1.
 */
static int not_the_volume(struct error *err)
{
    return err->code == ERR_NOT_FOUND ? error_recode(err, ERR_PRECONDITION) : -1;
}

static bool is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int failed_at(int sys_errno, const char *verb, const char *path, struct error *err)
{
    if (sys_errno == ENAMETOOLONG)
        return error_set(err, ERR_INVALID, "the last part of '%s' is too long", path);
    return error_errno(err, sys_errno, "%s '%s'", verb, path);
}

static int directory_must_be_empty(int parent, const char *name, const char *path,
                                   struct error *err)
{
    AUTO_CLOSE int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *e;
    bool empty = true;

    if (dir == NULL)
        return error_errno(err, errno, "read '%s'", path);
    (void)TAKE_FD(fd);
    while (errno = 0, empty && (e = readdir(dir)) != NULL)
        empty = is_dot(e->d_name);
    int failed = errno;
    (void)closedir(dir);
    if (failed != 0)
        return error_errno(err, failed, "read '%s'", path);
    if (!empty)
        return error_set(err, ERR_PRECONDITION, "'%s' is a directory with content", path);
    return 0;
}

/* What is at the path must be an empty directory or an empty regular file. */
static int must_be_empty(int parent, const char *name, const char *path, mode_t *ret_type,
                         struct error *err)
{
    struct stat st;

    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return failed_at(errno, "look at", path, err);
    *ret_type = st.st_mode & S_IFMT;
    if (S_ISLNK(st.st_mode))
        return error_set(err, ERR_INVALID, "'%s' is a symbolic link", path);
    if (S_ISDIR(st.st_mode))
        return directory_must_be_empty(parent, name, path, err);
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERR_PRECONDITION, "'%s' is neither a file nor a directory", path);
    if (st.st_size > 0)
        return error_set(err, ERR_PRECONDITION, "'%s' is a file with content", path);
    return 0;
}

/* 0: made. An errno otherwise. */
static int make(int parent, const char *name, bool block)
{
    if (!block)
        return mkdirat(parent, name, 0750) == 0 ? 0 : errno;
    AUTO_CLOSE int fd = openat(parent, name, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return fd >= 0 ? 0 : errno;
}

int target_make(const char *path, bool block, bool *ret_made, struct error *err)
{
    AUTO_CLOSE int parent = -1;
    const char *name;
    mode_t type, want = block ? S_IFREG : S_IFDIR;

    if (open_place(path, &parent, &name, err) < 0)
        return not_the_volume(err);
    int failed = make(parent, name, block);
    if (failed == 0) {
        *ret_made = true;
        return 0;
    }
    if (failed == ENAMETOOLONG)
        return error_set(err, ERR_INVALID, "'%s' has too long a name", path);
    if (failed != EEXIST)
        return error_errno(err, failed, "make target '%s'", path);
    if (must_be_empty(parent, name, path, &type, err) < 0)
        return -1;
    if (type != want)
        return error_set(err, ERR_PRECONDITION, "'%s' is not a %s", path,
                         block ? "file, which raw block needs" : "directory");
    *ret_made = false;
    return 0;
}

int target_remove(const char *path, struct error *err)
{
    AUTO_CLOSE int parent = -1;
    struct error local = ERROR_INIT;
    const char *name;
    mode_t type;

    if (open_place(path, &parent, &name, &local) < 0 ||
        must_be_empty(parent, name, path, &type, &local) < 0) {
        if (local.code == ERR_NOT_FOUND)
            return 0;
        *err = local;
        return -1;
    }
    if (unlinkat(parent, name, type == S_IFDIR ? AT_REMOVEDIR : 0) < 0 && errno != ENOENT)
        return error_errno(err, errno, "remove target '%s'", path);
    return 0;
}

static int refuse_mounted(const char *path, struct error *err)
{
    AUTO_CLOSE int fd = -1;

    if (fs_open_path(path, &fd, err) < 0)
        return -1;
    return refuse_inside(fd, path, "another Coffer volume is mounted at", err);
}

int target_check_staging(const char *path, bool mounted, struct error *err)
{
    AUTO_CLOSE int parent = -1;
    const char *name;
    mode_t type;

    if (open_place(path, &parent, &name, err) < 0)
        return not_the_volume(err);
    if (mounted)
        return refuse_mounted(path, err);
    if (must_be_empty(parent, name, path, &type, err) < 0)
        return not_the_volume(err);
    if (type != S_IFDIR)
        return error_set(err, ERR_PRECONDITION, "'%s' is not a directory", path);
    return 0;
}

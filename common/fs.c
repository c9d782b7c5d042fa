/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/fs.h"

#include "common/cleanup.h"
#include "common/fault.h"
#include "common/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct path_text {
    char text[PATH_MAX + NAME_MAX + 2];
};

/* "directory/name" for an error text; only the name when the kernel doesn't say which directory. */
static const char *path_of(int dirfd, const char *name, struct path_text *p)
{
    char link[64], dir[PATH_MAX];
    ssize_t n = -1;

    if (dirfd >= 0 && name[0] != '/') {
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
        n = readlink(link, dir, sizeof(dir) - 1);
    }
    if (n < 0)
        n = 0;
    dir[n] = '\0';
    (void)snprintf(p->text, sizeof(p->text), "%s%s%.255s", dir, n > 0 ? "/" : "", name);
    return p->text;
}

static int fail_at(struct error *err, int sys_errno, const char *verb, int dirfd, const char *name)
{
    struct path_text p;

    return error_errno(err, sys_errno, "%s '%s'", verb, path_of(dirfd, name, &p));
}

/* A program that is started with descriptor 0, 1 or 2 closed would give the number to a lock file,
 * a socket or a volume, and then log into it. /dev/null takes the place, for reading only, so that
 * an answer that can't be printed is still an error. Before main and before the constructors of
 * libraries, because gRPC's opens a descriptor. */
static __attribute__((constructor(101))) void fill_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) != fd)
            _exit(2); /* there is nobody to tell */
    }
}

int fs_open_dir(const char *path, int *ret_fd, struct error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return error_errno(err, errno, "open directory '%s'", path);
    *ret_fd = fd;
    return 0;
}

static ssize_t read_some(int fd, void *buf, size_t size)
{
    ssize_t n;

    do
        n = read(fd, buf, size);
    while (n < 0 && errno == EINTR);
    return n;
}

static void cut_back(struct strbuf *sb, size_t len)
{
    sb->len = len;
    if (sb->buf != NULL)
        sb->buf[len] = '\0';
}

int fs_read_fd(int fd, const char *what, size_t max, struct strbuf *sb, struct error *err)
{
    char chunk[4096];
    size_t before = sb->len, total = 0;
    ssize_t n;

    while ((n = read_some(fd, chunk, sizeof(chunk))) > 0) {
        total += (size_t)n;
        if (total > max)
            break;
        strbuf_add(sb, chunk, (size_t)n);
    }
    if (n == 0 && strbuf_check(sb, what, err) == 0)
        return 0;
    if (n < 0)
        (void)error_errno(err, errno, "read '%s'", what);
    if (n > 0)
        (void)error_set(err, ERR_DATA_LOSS, "'%s' is longer than %zu bytes", what, max);
    cut_back(sb, before);
    return -1;
}

/* O_NONBLOCK: a FIFO that somebody put there must not hang us. */
static int open_regular(int dirfd, const char *name, int *ret_fd, struct error *err)
{
    AUTO_CLOSE int fd =
        openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat st;
    struct path_text p;

    if (fd < 0)
        return fail_at(err, errno, "open", dirfd, name);
    if (fstat(fd, &st) < 0)
        return fail_at(err, errno, "stat", dirfd, name);
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERR_DATA_LOSS, "'%s' is not a regular file",
                         path_of(dirfd, name, &p));
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int fs_read_path(const char *path, size_t max, struct strbuf *sb, struct error *err)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_NOCTTY | O_CLOEXEC);

    if (fd < 0)
        return error_errno(err, errno, "open '%s'", path);
    return fs_read_fd(fd, path, max, sb, err);
}

int fs_read_at(int dirfd, const char *name, size_t max, struct strbuf *sb, struct error *err)
{
    AUTO_CLOSE int fd = -1;
    struct path_text p;

    if (open_regular(dirfd, name, &fd, err) < 0)
        return -1;
    return fs_read_fd(fd, path_of(dirfd, name, &p), max, sb, err);
}

int fs_write_all(int fd, const void *data, size_t len, const char *what, struct error *err)
{
    const char *p = data;

    while (len > 0) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, errno, "write '%s'", what);
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int fs_fsync_dir(int dirfd, const char *what, struct error *err)
{
    if (fsync(dirfd) < 0)
        return error_errno(err, errno, "fsync directory '%s'", what);
    return 0;
}

/* A left-over of a killed writer goes first: O_EXCL then proves that the file is ours alone. */
static int create_tmp(int dirfd, const char *tmp, int *ret_fd, struct error *err)
{
    int fd;

    if (unlinkat(dirfd, tmp, 0) < 0 && errno != ENOENT)
        return fail_at(err, errno, "remove", dirfd, tmp);
    fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_at(err, errno, "create", dirfd, tmp);
    *ret_fd = fd;
    return 0;
}

struct content {
    const void *data;
    size_t len;
    mode_t mode;
    const struct fs_owner *owner;
};

static int write_tmp(int dirfd, const char *tmp, const struct content *c, struct error *err)
{
    AUTO_CLOSE int fd = -1;
    struct path_text p;

    if (create_tmp(dirfd, tmp, &fd, err) < 0)
        return -1;
    FAULT_POINT("fs:atomic:created");
    if (fs_write_all(fd, c->data, c->len, path_of(dirfd, tmp, &p), err) < 0)
        return -1;
    if (c->owner != NULL && geteuid() == 0 && fchown(fd, c->owner->uid, c->owner->gid) < 0)
        return fail_at(err, errno, "chown", dirfd, tmp);
    if (fchmod(fd, c->mode) < 0)
        return fail_at(err, errno, "chmod", dirfd, tmp);
    if (fsync(fd) < 0)
        return fail_at(err, errno, "fsync", dirfd, tmp);
    FAULT_POINT("fs:atomic:written");
    return 0;
}

int fs_write_atomic_at(int dirfd, const char *name, const void *data, size_t len, mode_t mode,
                       const struct fs_owner *owner, struct error *err)
{
    const struct content c = { .data = data, .len = len, .mode = mode, .owner = owner };
    char tmp[NAME_MAX + 1];

    if (snprintf(tmp, sizeof(tmp), "%s.tmp", name) >= (int)sizeof(tmp))
        return error_set(err, ERR_INVALID, "the file name '%.80s...' is too long", name);
    if (write_tmp(dirfd, tmp, &c, err) < 0) {
        (void)unlinkat(dirfd, tmp, 0);
        return -1;
    }
    if (renameat(dirfd, tmp, dirfd, name) < 0) {
        (void)fail_at(err, errno, "rename to", dirfd, name);
        (void)unlinkat(dirfd, tmp, 0);
        return -1;
    }
    FAULT_POINT("fs:atomic:renamed");
    if (fsync(dirfd) < 0)
        return fail_at(err, errno, "fsync the directory of", dirfd, name);
    return 0;
}

/* Where a file system can't rename without replacing (NFS), a second name does it. */
static int name_new(int dirfd, const char *tmp, const char *name, struct error *err)
{
    if (renameat2(dirfd, tmp, dirfd, name, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno == EINVAL && linkat(dirfd, tmp, dirfd, name, 0) == 0) {
        (void)unlinkat(dirfd, tmp, 0);
        return 0;
    }
    return errno == EEXIST ? error_set(err, ERR_EXISTS, "'%s' is there already", name)
                           : error_errno(err, errno, "rename to '%s'", name);
}

static int write_new_at(int dirfd, const char *name, const struct content *c, struct error *err)
{
    char tmp[NAME_MAX + 1], random[37];
    struct stat st;

    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return error_set(err, ERR_EXISTS, "'%s' is there already", name);
    if (uuid_random(random) < 0)
        return error_set(err, ERR_INTERNAL, "no random bytes");
    if (snprintf(tmp, sizeof(tmp), "%s.%.8s.tmp", name, random) >= (int)sizeof(tmp))
        return error_set(err, ERR_INVALID, "the file name '%.80s...' is too long", name);
    if (write_tmp(dirfd, tmp, c, err) < 0 || name_new(dirfd, tmp, name, err) < 0) {
        (void)unlinkat(dirfd, tmp, 0);
        return -1;
    }
    return fsync(dirfd) < 0 ? error_errno(err, errno, "fsync the directory of '%s'", name) : 0;
}

int fs_write_new(const char *path, const void *data, size_t len, mode_t mode, struct error *err)
{
    const struct content c = { .data = data, .len = len, .mode = mode };
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    size_t dir_len = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    AUTO_FREE char *dir = dir_len > 0 ? strndup(path, dir_len) : strdup(".");
    AUTO_CLOSE int dirfd = -1;

    if (dir == NULL)
        return error_memory(err);
    if (name[0] == '\0')
        return error_set(err, ERR_INVALID, "'%s' names no file", path);
    dirfd =
        open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* the caller's own path, links and all */
    if (dirfd < 0)
        return error_errno(err, errno, "open directory '%s'", dir);
    return write_new_at(dirfd, name, &c, err) < 0 ? error_prefix(err, "write '%s'", path) : 0;
}

/* One directory; there already is fine when it is a directory (or, on the way, a link to one). */
static int make_dir(const char *path, mode_t mode, bool last, struct error *err)
{
    struct stat st;

    if (mkdir(path, mode) == 0) {
        if (chmod(path, mode) < 0) /* mkdir's mode loses what the umask takes */
            return error_errno(err, errno, "chmod '%s'", path);
        return 0;
    }
    if (errno != EEXIST)
        return error_errno(err, errno, "make directory '%s'", path);
    if (fstatat(AT_FDCWD, path, &st, last ? AT_SYMLINK_NOFOLLOW : 0) < 0)
        return error_errno(err, errno, "stat '%s'", path);
    if (!S_ISDIR(st.st_mode))
        return error_errno(err, ENOTDIR, "make directory '%s'", path);
    return 0;
}

int fs_mkdir_p(const char *path, mode_t mode, struct error *err)
{
    char part[PATH_MAX];
    size_t len = strlen(path);

    while (len > 1 && path[len - 1] == '/')
        len--;
    if (len == 0 || len >= sizeof(part))
        return error_set(err, ERR_INVALID, "a directory's path must have 1 to %d bytes",
                         PATH_MAX - 1);
    for (size_t i = 1; i <= len; i++) {
        if (i < len && path[i] != '/')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (make_dir(part, mode, i == len, err) < 0)
            return -1;
    }
    return 0;
}

static bool has_dot_dot(const char *path)
{
    for (const char *p = path; *p != '\0';) {
        size_t n = strcspn(p, "/");

        if (n == 2 && p[0] == '.' && p[1] == '.')
            return true;
        p += n;
        p += *p == '/';
    }
    return false;
}

int fs_open_path(const char *path, int *ret_fd, struct error *err)
{
    struct open_how how = {
        .flags = O_PATH | O_CLOEXEC, /* not O_NOFOLLOW: it would open a last symlink itself */
        .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    long fd;

    if (path[0] != '/')
        return error_set(err, ERR_INVALID, "path '%s' is not absolute", path);
    if (has_dot_dot(path))
        return error_set(err, ERR_INVALID, "path '%s' holds '..'", path);
    fd = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
    if (fd < 0 && errno == ELOOP)
        return error_set(err, ERR_INVALID, "path '%s' leads over a symbolic link", path);
    if (fd < 0) {
        bool malformed = errno == ENOTDIR || errno == ENAMETOOLONG;

        (void)error_errno(err, errno, "open '%s'", path);
        return malformed ? error_recode(err, ERR_INVALID) : -1;
    }
    *ret_fd = (int)fd;
    return 0;
}

int fs_flock(int fd, const char *what, struct error *err)
{
    int rc;

    do
        rc = flock(fd, LOCK_EX | LOCK_NB);
    while (rc < 0 && errno == EINTR);
    if (rc < 0 && errno == EWOULDBLOCK)
        return error_set(err, ERR_ABORTED, "%s is locked by another operation", what);
    if (rc < 0)
        return error_errno(err, errno, "lock %s", what);
    return 0;
}

int fs_read_line(const char *path, char *ret, size_t size, struct error *err)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(size); /* one more for the newline */

    if (fs_read_at(AT_FDCWD, path, size, &sb, err) < 0)
        return -1;
    if (sb.len > 0 && sb.buf[sb.len - 1] == '\n')
        cut_back(&sb, sb.len - 1);
    if (sb.len >= size)
        return error_set(err, ERR_DATA_LOSS, "'%s' is longer than %zu bytes", path, size - 1);
    if (strlen(strbuf_text(&sb)) != sb.len)
        return error_set(err, ERR_DATA_LOSS, "'%s' holds a NUL", path);
    memcpy(ret, strbuf_text(&sb), sb.len + 1);
    return 0;
}

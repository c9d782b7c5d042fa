/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "csi/endpoint.h"

#include "common/cleanup.h"
#include "common/strbuf.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static bool plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           strchr("/._-~", c) != NULL;
}

/* The core reads the target as a URI: '%', '?' and '#' would not mean themselves. */
static void encode_target(const char *path, char *to)
{
    static const char digits[] = "0123456789ABCDEF";
    memcpy(to, "unix:", 5);
    to += 5;
    for (const char *p = path; *p != '\0'; p++) {
        if (plain(*p)) {
            *to++ = *p;
            continue;
        }
        *to++ = '%';
        *to++ = digits[(unsigned char)*p >> 4];
        *to++ = digits[(unsigned char)*p & 15];
    }
    *to = '\0';
}

int endpoint_parse(const char *text, struct endpoint *ret, struct error *err)
{
    const char *path = text;
    if (strncmp(path, "unix:", 5) == 0) {
        path += 5;
        if (strncmp(path, "//", 2) == 0)
            path += 2;
    }
    if (path[0] != '/')
        return error_set(err, ERR_INVALID,
                         "endpoint '%s' must be unix:///path, unix:/path or an absolute path",
                         text);
    size_t len = strlen(path);
    if (len > ENDPOINT_PATH_MAX)
        return error_set(err, ERR_INVALID,
                         "endpoint '%s' is longer than the %d bytes of a socket path", text,
                         ENDPOINT_PATH_MAX);
    if (path[len - 1] == '/')
        return error_set(err, ERR_INVALID, "endpoint '%s' names a directory", text);
    memcpy(ret->path, path, len + 1);
    encode_target(path, ret->target);
    return 0;
}

static int take_lock(const char *path, int *ret_fd, struct error *err)
{
    char lock[ENDPOINT_PATH_MAX + 8];
    (void)snprintf(lock, sizeof(lock), "%s.lock", path);
    AUTO_CLOSE int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_errno(err, errno, "open the lock file '%s'", lock);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *ret_fd = TAKE_FD(fd);
        return 0;
    }
    if (errno != EWOULDBLOCK)
        return error_errno(err, errno, "lock '%s'", lock);
    return error_set(err, ERR_PRECONDITION,
                     "another process already serves '%s': it holds the lock '%s'", path, lock);
}

/* 1: somebody accepts connections there; 0: nobody; -1: can't tell. */
static int answers(const char *path, struct error *err)
{
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_errno(err, errno, "make a socket");
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    memcpy(to.sun_path, path, strlen(path) + 1);
    if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0 || errno == EAGAIN)
        return 1;
    if (errno == ECONNREFUSED || errno == ENOENT)
        return 0;
    return error_errno(err, errno, "connect to '%s'", path);
}

static int remove_stale(const char *path, struct error *err)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : error_errno(err, errno, "stat '%s'", path);
    if (!S_ISSOCK(st.st_mode))
        return error_set(err, ERR_PRECONDITION, "'%s' exists and is not a socket", path);
    int live = answers(path, err);
    if (live < 0)
        return -1;
    if (live > 0)
        return error_set(err, ERR_PRECONDITION,
                         "another process already serves '%s', without its lock file", path);
    if (unlink(path) < 0 && errno != ENOENT)
        return error_errno(err, errno, "remove the stale socket '%s'", path);
    return 0;
}

int endpoint_claim(const struct endpoint *e, int *ret_fd, struct error *err)
{
    AUTO_CLOSE int fd = -1;
    if (take_lock(e->path, &fd, err) < 0 || remove_stale(e->path, err) < 0)
        return -1;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* ---- a socket that appears when it serves already ---- */

int endpoint_hide(const struct endpoint *e, struct endpoint *ret, struct error *err)
{
    char path[ENDPOINT_PATH_MAX + 2];
    const char *name = strrchr(e->path, '/') + 1;
    (void)snprintf(path, sizeof(path), "%.*s.%s", (int)(name - e->path), e->path, name);
    if (endpoint_parse(path, ret, err) < 0)
        return -1;
    return remove_stale(ret->path, err);
}

int endpoint_publish(const struct endpoint *hidden, const struct endpoint *e,
                     struct endpoint_id *ret, struct error *err)
{
    struct stat st;
    if (lstat(hidden->path, &st) < 0)
        return error_errno(err, errno, "stat '%s'", hidden->path);
    if (renameat2(AT_FDCWD, hidden->path, AT_FDCWD, e->path, RENAME_NOREPLACE) < 0)
        return error_errno(err, errno, "move the socket to '%s'", e->path);
    *ret = (struct endpoint_id){ .dev = st.st_dev, .ino = st.st_ino };
    return 0;
}

/* The number isn't given to anybody else while the socket is open. */
bool endpoint_is(const struct endpoint *e, const struct endpoint_id *id)
{
    struct stat st;
    return lstat(e->path, &st) == 0 && st.st_dev == id->dev && st.st_ino == id->ino;
}

void endpoint_remove(const struct endpoint *e, const struct endpoint_id *id)
{
    if (endpoint_is(e, id))
        (void)unlink(e->path);
}

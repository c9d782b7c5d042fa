/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/listen.h"

#include "common/cleanup.h"
#include "common/strbuf.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int take_lock(const char *path, int *ret_fd, struct error *err)
{
    AUTO_STRBUF struct strbuf name = STRBUF_INIT(4096);
    strbuf_addf(&name, "%s.lock", path);
    if (strbuf_check(&name, "socket path", err) < 0)
        return -1;
    AUTO_CLOSE int fd = open(strbuf_text(&name), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_errno(err, errno, "open '%s'", strbuf_text(&name));
    int r = flock(fd, LOCK_EX | LOCK_NB);
    if (r < 0 && errno == EWOULDBLOCK)
        return error_set(err, ERR_ABORTED, "another %s serves '%s'", program_invocation_short_name,
                         path);
    if (r < 0)
        return error_errno(err, errno, "lock '%s'", strbuf_text(&name));
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* Only a socket is replaced: a wrong --socket must not delete somebody's file. */
static int remove_stale(const char *path, struct error *err)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : error_errno(err, errno, "look at '%s'", path);
    if (!S_ISSOCK(st.st_mode))
        return error_set(err, ERR_PRECONDITION, "'%s' exists and is not a socket", path);
    if (unlink(path) < 0)
        return error_errno(err, errno, "remove the old socket '%s'", path);
    return 0;
}

static int bind_at(int fd, const struct sockaddr_un *address, gid_t group, struct error *err)
{
    /* Nobody may connect before the group is right; there is one thread, so the umask is ours. */
    mode_t old = umask(0177);
    int r = bind(fd, (const struct sockaddr *)address, sizeof(*address));
    int saved = errno;
    (void)umask(old);
    if (r < 0)
        return error_errno(err, saved, "bind '%s'", address->sun_path);
    if (group != LISTEN_OWN_GROUP && lchown(address->sun_path, (uid_t)-1, group) < 0)
        return error_errno(err, errno, "give '%s' to its group", address->sun_path);
    if (chmod(address->sun_path, 0660) < 0)
        return error_errno(err, errno, "set the mode of '%s'", address->sun_path);
    if (listen(fd, SOMAXCONN) < 0)
        return error_errno(err, errno, "listen on '%s'", address->sun_path);
    return 0;
}

int listen_at(const char *path, int type, gid_t group, int *ret_fd, struct error *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (path[0] != '/')
        return error_set(err, ERR_INVALID, "--socket '%s' must be an absolute path", path);
    if (str_copy(address.sun_path, sizeof(address.sun_path), path) < 0)
        return error_set(err, ERR_INVALID, "--socket '%s' is longer than %zu bytes", path,
                         sizeof(address.sun_path) - 1);
    if (remove_stale(path, err) < 0)
        return -1;
    AUTO_CLOSE int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_errno(err, errno, "make a socket");
    if (bind_at(fd, &address, group, err) < 0)
        return -1;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int listener_open(const char *path, int type, gid_t group, struct listener *ret, struct error *err)
{
    AUTO_CLOSE int lock = -1;
    AUTO_CLOSE int fd = -1;
    if (path[0] != '/')
        return error_set(err, ERR_INVALID, "--socket '%s' must be an absolute path", path);
    if (take_lock(path, &lock, err) < 0 ||
        listen_at(path, type | SOCK_NONBLOCK, group, &fd, err) < 0)
        return -1;
    *ret = (struct listener){ .path = path, .lock_fd = TAKE_FD(lock), .fd = TAKE_FD(fd) };
    return 0;
}

void listener_close(struct listener *l)
{
    if (l->fd < 0)
        return;
    (void)unlink(l->path);
    (void)close(l->fd);
    (void)close(l->lock_fd);
    *l = (struct listener)LISTENER_INIT;
}

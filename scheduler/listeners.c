/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/listeners.h"

#include "common/cleanup.h"
#include "common/parse.h"

#include <errno.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 512

int listener_path_check(const char *flag, const char *path, struct error *err)
{
    struct sockaddr_un un;

    if (path[0] != '/')
        return error_set(err, ERR_INVALID, "--%s '%s' must be an absolute path", flag, path);
    if (strlen(path) >= sizeof(un.sun_path))
        return error_set(err, ERR_INVALID, "--%s '%s' is longer than %zu bytes", flag, path,
                         sizeof(un.sun_path) - 1);
    return 0;
}

int listener_group(const char *name, gid_t *ret, struct error *err)
{
    const struct group *group;
    uint64_t number;

    if (name[0] == '\0') {
        *ret = (gid_t)-1;
        return 0;
    }
    if (parse_u64(name, &number) == 0) {
        if (number >= UINT32_MAX)
            return error_set(err, ERR_INVALID, "--socket-group '%s' is no group", name);
        *ret = (gid_t)number;
        return 0;
    }
    errno = 0;
    group = getgrnam(name);
    if (group == NULL)
        return error_set(err, ERR_INVALID, "--socket-group '%s' is no group", name);
    *ret = group->gr_gid;
    return 0;
}

/* A socket that nobody answers on any more goes. */
static int remove_old(const char *path, const struct sockaddr_un *un, struct error *err)
{
    AUTO_CLOSE int probe = -1;
    struct stat st;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : error_errno(err, errno, "look at '%s'", path);
    if (!S_ISSOCK(st.st_mode))
        return error_set(err, ERR_PRECONDITION, "'%s' exists and is not a socket", path);
    probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return error_errno(err, errno, "make a socket");
    if (connect(probe, (const struct sockaddr *)un, sizeof(*un)) == 0 || errno == EAGAIN)
        return error_set(err, ERR_PRECONDITION, "somebody serves on '%s' already", path);
    if (unlink(path) < 0 && errno != ENOENT)
        return error_errno(err, errno, "remove the old socket '%s'", path);
    return 0;
}

int listener_unix(const char *path, mode_t mode, gid_t group, int *ret_fd, struct error *err)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return error_errno(err, errno, "make a socket");
    memcpy(un.sun_path, path, strlen(path) + 1);
    if (remove_old(path, &un, err) < 0)
        return -1;
    /* the process's umask is 077: nobody else connects before the group is set */
    if (bind(fd, (const struct sockaddr *)&un, sizeof(un)) < 0)
        return error_errno(err, errno, "bind to '%s'", path);
    if (group != (gid_t)-1 && chown(path, (uid_t)-1, group) < 0)
        return error_errno(err, errno, "give '%s' to the group %u", path, (unsigned)group);
    if (chmod(path, mode) < 0)
        return error_errno(err, errno, "set the mode of '%s'", path);
    if (listen(fd, BACKLOG) < 0)
        return error_errno(err, errno, "listen on '%s'", path);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

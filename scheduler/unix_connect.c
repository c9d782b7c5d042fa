/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/unix_connect.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/strbuf.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int failed(int sys_errno, const char *verb, struct error *err)
{
    (void)error_errno(err, sys_errno, "%s", verb);
    return error_recode(err, ERR_UNAVAILABLE);
}

int unix_connect(const char *path, uint64_t deadline, int *ret_fd, struct error *err)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    AUTO_CLOSE int fd = -1;

    if (str_copy(to.sun_path, sizeof(to.sun_path), path) < 0)
        return error_set(err, ERR_INVALID, "the path of a socket is longer than %u bytes",
                         UNIX_PATH_MAX_LEN);
    if (deadline_left(deadline) == 0)
        return error_set(err, ERR_DEADLINE, "no time was left to connect");
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_errno(err, errno, "make a socket");
    if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0)
        return failed(errno, "connect", err);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static int wait_for(int fd, short events, uint64_t deadline, struct error *err)
{
    struct pollfd p = { .fd = fd, .events = events };
    int n = poll(&p, 1, deadline_poll_timeout(deadline));

    if (n < 0 && errno != EINTR)
        return error_errno(err, errno, "wait for a socket");
    if (deadline_left(deadline) == 0)
        return error_set(err, ERR_DEADLINE, "the other side of a socket took too long");
    return 0;
}

int unix_write(int fd, const void *data, size_t len, uint64_t deadline, struct error *err)
{
    const char *at = data;

    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

        if (n >= 0) {
            at += n;
            len -= (size_t)n;
        } else if (errno != EAGAIN && errno != EINTR) {
            return failed(errno, "write to a socket", err);
        } else if (wait_for(fd, POLLOUT, deadline, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int unix_read(int fd, void *to, size_t size, uint64_t deadline, size_t *ret_len, struct error *err)
{
    for (;;) {
        ssize_t n = recv(fd, to, size, 0);

        if (n >= 0) {
            *ret_len = (size_t)n;
            return 0;
        }
        if (errno != EAGAIN && errno != EINTR)
            return failed(errno, "read from a socket", err);
        if (wait_for(fd, POLLIN, deadline, err) < 0)
            return -1;
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/recv.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static void take_fds(struct msghdr *message, struct received *r)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n && r->n_fds < RECEIVED_FDS; i++, r->n_fds++)
            memcpy(&r->fds[r->n_fds], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
    }
}

static enum recv_result failed(struct error *err)
{
    if (errno == EAGAIN || errno == EINTR)
        return RECV_NOTHING;
    if (errno == ECONNRESET)
        return RECV_CLOSED;
    (void)error_errno(err, errno, "receive a frame");
    return RECV_BROKEN;
}

enum recv_result receive_frame(int fd, struct received *r, struct error *err)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * RECEIVED_FDS)];
    struct iovec part = { .iov_base = r->frame.bytes, .iov_len = sizeof(r->frame.bytes) };
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
    };
    r->n_fds = 0;
    ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    if (n < 0)
        return failed(err);
    r->frame.len = (size_t)n;
    take_fds(&message, r);
    if ((message.msg_flags & MSG_CTRUNC) != 0) {
        (void)error_set(err, ERR_INVALID, "frame: too many descriptors");
        return RECV_BROKEN;
    }
    if ((message.msg_flags & MSG_TRUNC) != 0) {
        (void)error_set(err, ERR_INVALID, "frame: longer than %u bytes", WIRE_FRAME_MAX);
        return RECV_BROKEN;
    }
    return n == 0 ? RECV_CLOSED : RECV_FRAME;
}

void received_release(struct received *r)
{
    for (size_t i = 0; i < r->n_fds; i++)
        (void)close(r->fds[i]);
    r->n_fds = 0;
    explicit_bzero(r->frame.bytes, r->frame.len);
    r->frame.len = 0;
}

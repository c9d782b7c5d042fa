/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/pipe.h"

#include "keyd/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

_Static_assert(sizeof(struct key_frame) <= PIPE_BUF, "one write must be atomic");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "struct key_frame is little-endian");

int key_pipe_check(int fd, struct error *err)
{
    struct stat st;
    struct statfs fs;
    if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
        return error_errno(err, errno, "look at the descriptor");
    if (!S_ISFIFO(st.st_mode) || fs.f_type != PIPEFS_MAGIC)
        return error_set(err, ERR_INVALID, "the descriptor is not a pipe");
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return error_errno(err, errno, "look at the descriptor");
    if ((flags & O_ACCMODE) != O_WRONLY)
        return error_set(err, ERR_INVALID, "the descriptor is not the write end of a pipe");
    if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return error_errno(err, errno, "make the pipe non-blocking");
    return 0;
}

static int write_failed(ssize_t n, struct error *err)
{
    if (n >= 0)
        return error_set(err, ERR_INTERNAL, "the pipe took only a part of the frame");
    if (errno == EAGAIN)
        return error_set(err, ERR_PRECONDITION, "the pipe is full");
    if (errno == EPIPE)
        return error_set(err, ERR_CANCELED, "the pipe has no reader");
    return error_errno(err, errno, "write to the pipe");
}

int key_pipe_write(int fd, const struct secret *key, struct error *err)
{
    AUTO_SECRET struct secret *room = secret_new(sizeof(struct key_frame), err);
    if (room == NULL)
        return -1;
    struct key_frame *frame = (struct key_frame *)secret_bytes(room);
    frame->magic = KEY_FRAME_MAGIC;
    frame->status = KEY_FRAME_OK;
    frame->length = KEY_BYTES;
    frame->reserved = 0;
    memcpy(frame->key, secret_data(key), KEY_BYTES);
    ssize_t n = write(fd, frame, sizeof(*frame));
    return n == (ssize_t)sizeof(*frame) ? 0 : write_failed(n, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd/pipe.h: the way a storage key leaves keyd: one frame (keyd/frame.h) into a pipe the client
 * made. The descriptor stays the caller's. Never blocks.
 */
#ifndef COFFER_KEYD_PIPE_H
#define COFFER_KEYD_PIPE_H

#include "common/base.h"
#include "common/error.h"
#include "common/secret.h"

/* The write end of a pipe (pipe(2), not a named FIFO, which others could open too), else
 * ERR_INVALID. */
int key_pipe_check(int fd, struct error *err) MUST_CHECK;
/* key: KEY_BYTES bytes. ERR_PRECONDITION when the pipe is full, ERR_CANCELED when nobody can read
 * it. */
int key_pipe_write(int fd, const struct secret *key, struct error *err) MUST_CHECK;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * endpoint.h: the socket's path, and the right to serve it. gRPC's core unlinks whatever socket it
 * finds at the path, a live one too, so a lock file <path>.lock (flock; never removed, a removed
 * lock file locks nothing) is taken before the core sees the path.
 */
#ifndef COFFER_CSI_ENDPOINT_H
#define COFFER_CSI_ENDPOINT_H

#include "common/base.h"
#include "common/error.h"

#include <sys/types.h>

#define ENDPOINT_PATH_MAX 107 /* sun_path without its NUL */

struct endpoint {
    char path[ENDPOINT_PATH_MAX + 1];
    char target[3 * ENDPOINT_PATH_MAX +
                6]; /* "unix:" and the path, percent-encoded: what the core wants */
};

/* "unix:///path", "unix:/path" or an absolute path; anything else is ERR_INVALID. */
int endpoint_parse(const char *text, struct endpoint *ret, struct error *err) MUST_CHECK;
/* Takes the lock and removes a stale socket. *ret_fd holds the lock for as long as it is open.
 * ERR_PRECONDITION when another process serves the path or something that isn't a socket is there.
 */
int endpoint_claim(const struct endpoint *e, int *ret_fd, struct error *err) MUST_CHECK;

/* ---- a socket that appears when it serves already ---- */

struct endpoint_id {
    dev_t dev;
    ino_t ino;
};

/* ".NAME" beside it: the core binds there and unlinks only that, whatever happens at the path
 * itself. The lock of `e` is held: a left-over of a killed process is removed. */
int endpoint_hide(const struct endpoint *e, struct endpoint *ret, struct error *err) MUST_CHECK;
/* Moves the socket to its path, at which nothing may be. */
int endpoint_publish(const struct endpoint *hidden, const struct endpoint *e,
                     struct endpoint_id *ret, struct error *err) MUST_CHECK;
bool endpoint_is(const struct endpoint *e, const struct endpoint_id *id);
/* Only that socket, nobody else's. */
void endpoint_remove(const struct endpoint *e, const struct endpoint_id *id);

#endif

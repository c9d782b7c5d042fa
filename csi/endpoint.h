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

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listen.h: a daemon's own listening unix socket. `<path>.lock` is held by flock while it lives,
 * and only its holder replaces or unlinks the socket file: a second instance can't steal it, and a
 * socket left by a killed one is replaced. The lock file itself stays: unlinking it would let two
 * instances lock two files. For the main thread, at start: it sets the umask for a moment.
 */
#ifndef COFFER_COMMON_LISTEN_H
#define COFFER_COMMON_LISTEN_H

#include "common/base.h"
#include "common/error.h"

#include <sys/types.h>

struct listener {
    const char *path; /* borrowed */
    int lock_fd;
    int fd; /* non-blocking */
};

#define LISTENER_INIT                         \
    {                                         \
        .path = NULL, .lock_fd = -1, .fd = -1 \
    }

#define LISTEN_OWN_GROUP ((gid_t)-1)

/* type: SOCK_SEQPACKET or SOCK_STREAM. group: the socket's, LISTEN_OWN_GROUP: this process's. The
 * parent directory must exist. Mode 0660. ERR_ABORTED when another instance holds the lock. */
int listener_open(const char *path, int type, gid_t group, struct listener *ret,
                  struct error *err) MUST_CHECK;
/* The socket alone, without a lock: bound, listening, blocking as `type` says, close-on-exec. A
 * socket that is there is replaced, nothing else is. */
int listen_at(const char *path, int type, gid_t group, int *ret_fd, struct error *err) MUST_CHECK;
void listener_close(struct listener *l); /* unlinks the socket; safe on LISTENER_INIT */

#define AUTO_LISTENER __attribute__((cleanup(listener_close)))

#endif

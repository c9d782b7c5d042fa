/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd/listen.h: keyd's listening socket. `<path>.lock` is held by flock while it lives, and only
 * its holder replaces or unlinks the socket file: a second instance can't steal it, and a socket
 * left by a killed one is replaced. The lock file itself stays: unlinking it would let two
 * instances lock two files.
 */
#ifndef COFFER_KEYD_LISTEN_H
#define COFFER_KEYD_LISTEN_H

#include "common/base.h"
#include "common/error.h"

struct listener {
    const char *path; /* borrowed */
    int lock_fd;
    int fd; /* non-blocking SOCK_SEQPACKET */
};

#define LISTENER_INIT                         \
    {                                         \
        .path = NULL, .lock_fd = -1, .fd = -1 \
    }

/* The parent directory must exist. Mode 0660. ERR_ABORTED when another instance holds the lock. */
int listener_open(const char *path, struct listener *ret, struct error *err) MUST_CHECK;
void listener_close(struct listener *l); /* unlinks the socket; safe on LISTENER_INIT */

#define AUTO_LISTENER __attribute__((cleanup(listener_close)))

#endif

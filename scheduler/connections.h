/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connections.h: who is connected, since when it has been at its request, and who must go. A
 * connection is the server's memory, known by its socket. Thread-safe.
 */
#ifndef COFFER_SCHEDULER_CONNECTIONS_H
#define COFFER_SCHEDULER_CONNECTIONS_H

#include "common/base.h"

#include <pthread.h>

struct connection {
    int fd;         /* borrowed */
    uint64_t since; /* clock_ms(): of the connection, or of the answer before */
    bool waits;     /* its request is whole: the answer is ours to give */
    bool cut;
    struct connection *prev, *next;
};

struct connections { /* the oldest first */
    pthread_mutex_t lock;
    struct connection *first, *last;
    size_t n;
};

#define CONNECTIONS_INIT                   \
    {                                      \
        .lock = PTHREAD_MUTEX_INITIALIZER, \
    }

void connections_add(struct connections *all, struct connection *c, int fd);
/* Before the socket is closed. */
void connections_remove(struct connections *all, struct connection *c);
/* The request is whole; or its answer is on its way, and the next one may come. */
void connections_wait(struct connections *all, struct connection *c);
void connections_renew(struct connections *all, struct connection *c);
/* Shuts those down that have been at their request for longer than max_ms, and so many of the
 * oldest that at most `most` are left. How many that were. */
size_t connections_cut(struct connections *all, uint64_t max_ms, size_t most);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* played.h: somebody who listens on a unix socket, takes one connection, reads until the client is
 * done or has sent `enough` bytes, and says something. On a thread of its own. */
#ifndef COFFER_TESTS_UNIT_SCHEDULER_PLAYED_H
#define COFFER_TESTS_UNIT_SCHEDULER_PLAYED_H

#include "tests/support/unit.h"

#include "common/strbuf.h"
#include "tests/support/tmpdir.h"

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct played {
    struct tmpdir dir;
    char path[600], got[4096];
    const char *says;
    size_t says_len, enough, n;
    bool silent; /* says nothing until the client goes */
    int listener;
    pthread_t thread;
};

static inline void *played_run(void *arg)
{
    struct played *p = arg;
    int fd = accept(p->listener, NULL, NULL);
    ssize_t n;

    while (p->n < p->enough && p->n < sizeof(p->got) - 1 &&
           (n = recv(fd, p->got + p->n, sizeof(p->got) - 1 - p->n, 0)) > 0)
        p->n += (size_t)n;
    struct pollfd gone = { .fd = fd };
    if (p->silent)
        (void)poll(&gone, 1, -1); /* POLLHUP */
    else
        (void)!send(fd, p->says, p->says_len, MSG_NOSIGNAL);
    (void)close(fd);
    return NULL;
}

static inline void played_start(struct played *p, const char *says, size_t enough)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };

    p->dir = tmpdir_make();
    p->says = says;
    p->says_len = strlen(says);
    p->enough = enough;
    (void)snprintf(p->path, sizeof(p->path), "%s/s", p->dir.path);
    assert_int_equal(str_copy(to.sun_path, sizeof(to.sun_path), p->path), 0);
    p->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(p->listener, (struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(listen(p->listener, 1), 0);
    assert_int_equal(pthread_create(&p->thread, NULL, played_run, p), 0);
}

static inline void played_end(struct played *p)
{
    assert_int_equal(pthread_join(p->thread, NULL), 0);
    (void)close(p->listener);
    tmpdir_remove(&p->dir);
}

#endif

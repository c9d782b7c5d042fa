/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/lifeline.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

static void on_end(void *ctx, uint32_t events UNUSED)
{
    struct lifeline *l = ctx;

    event_loop_stop(l->loop);
}

int lifeline_watch(struct lifeline *l, struct event_loop *loop, uint64_t fd, struct error *err)
{
    struct stat st;
    int flags = fd <= INT_MAX ? fcntl((int)fd, F_GETFL) : -1;

    if (fd == 0)
        return 0;
    if (flags < 0 || (flags & O_ACCMODE) != O_RDONLY || fstat((int)fd, &st) < 0 ||
        !S_ISFIFO(st.st_mode))
        return error_set(err, ERR_INVALID, "--lifeline %llu isn't the read end of a pipe",
                         (unsigned long long)fd);
    *l = (struct lifeline){ .loop = loop, .watch = { .fd = -1, .ready = on_end, .ctx = l } };
    return event_watch(loop, &l->watch, (int)fd, EPOLLIN, err);
}

void lifeline_drop(struct lifeline *l)
{
    if (l->loop != NULL)
        event_unwatch(l->loop, &l->watch);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd/lifeline.h: a coffer-keyd that somebody started for one request lives no longer than who
 * started it, however that ends: a pipe's read end, whose other end only the starter holds.
 */
#ifndef COFFER_KEYD_LIFELINE_H
#define COFFER_KEYD_LIFELINE_H

#include "common/base.h"
#include "common/error.h"
#include "common/event.h"

struct lifeline {
    struct event_loop *loop;
    struct event_watch watch;
};

/* The loop stops when the other end is closed, or anything is written there. fd 0: nothing is
 * watched. ERR_INVALID: it is no pipe's read end. Call it before sandbox_enter; `l` stays where it
 * is until lifeline_drop. */
int lifeline_watch(struct lifeline *l, struct event_loop *loop, uint64_t fd,
                   struct error *err) MUST_CHECK;
void lifeline_drop(struct lifeline *l);
#define AUTO_LIFELINE __attribute__((cleanup(lifeline_drop)))
#define LIFELINE_INIT                      \
    {                                      \
        .loop = NULL, .watch = {.fd = -1 } \
    }

#endif

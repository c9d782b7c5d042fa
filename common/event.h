/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event.h: a loop of one thread: descriptors and timers with a callback each. Watches and timers
 * are the caller's memory; a callback may add, change and remove any of them, its own and those of
 * events that were already collected included. Level-triggered epoll(7); timers keep
 * CLOCK_MONOTONIC milliseconds (deadline.h). Everything here is for the loop's thread.
 */
#ifndef COFFER_COMMON_EVENT_H
#define COFFER_COMMON_EVENT_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"

#include <sys/epoll.h>

struct event_loop; /* opaque */

struct event_watch {
    int fd; /* borrowed; -1: not watched */
    void (*ready)(void *ctx, uint32_t events);
    void *ctx;
};

struct event_timer {
    void (*fire)(void *ctx); /* once; the timer is off when it is called */
    void *ctx;
    uint64_t at; /* clock_ms() value */
    bool on;
    struct event_timer *prev, *next;
};

#define EVENT_WATCH_INIT                     \
    {                                        \
        .fd = -1, .ready = NULL, .ctx = NULL \
    }

int event_loop_new(struct event_loop **ret, struct error *err) MUST_CHECK;
void event_loop_free(struct event_loop *loop); /* closes none of the watched descriptors */

/* events: EPOLLIN, EPOLLOUT or both; EPOLLHUP and EPOLLERR always come. ready and ctx are set. */
int event_watch(struct event_loop *loop, struct event_watch *w, int fd, uint32_t events,
                struct error *err) MUST_CHECK;
int event_watch_change(struct event_loop *loop, struct event_watch *w, uint32_t events,
                       struct error *err) MUST_CHECK;
/* Before the descriptor is closed. Nothing happens when it isn't watched. */
void event_unwatch(struct event_loop *loop, struct event_watch *w);

/* Sets, or sets anew. `at` may be past: it fires in the next turn. DEADLINE_NEVER: stops it. */
void event_timer_set(struct event_loop *loop, struct event_timer *t, uint64_t at);
void event_timer_stop(struct event_loop *loop, struct event_timer *t);

/* Until event_loop_stop: 0. */
int event_loop_run(struct event_loop *loop, struct error *err) MUST_CHECK;
/* One turn: waits for something to happen until `deadline`, at most. */
int event_loop_turn(struct event_loop *loop, uint64_t deadline, struct error *err) MUST_CHECK;
void event_loop_stop(struct event_loop *loop);

DEFINE_AUTO(event_loop, event_loop_free)
#define AUTO_EVENT_LOOP __attribute__((cleanup(cleanup_event_loop)))

#endif

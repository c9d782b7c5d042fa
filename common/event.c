/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/event.h"

#include "common/deadline.h"

#include <errno.h>
#include <unistd.h>

#define BATCH 64

struct event_loop {
    int epoll_fd;
    bool stopping;
    struct event_timer *first; /* by time; equal times in the order they were set */
    /* what epoll answered and was not handed out yet: a watch that goes is taken out of it */
    struct epoll_event batch[BATCH];
    int n, next;
};

int event_loop_new(struct event_loop **ret, struct error *err)
{
    AUTO_EVENT_LOOP struct event_loop *loop = calloc(1, sizeof(*loop));

    if (loop == NULL)
        return error_memory(err);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0)
        return error_errno(err, errno, "make an epoll");
    *ret = TAKE_PTR(loop);
    return 0;
}

void event_loop_free(struct event_loop *loop)
{
    if (loop == NULL)
        return;
    if (loop->epoll_fd >= 0)
        (void)close(loop->epoll_fd);
    free(loop);
}

/* ---- descriptors ---- */

static int control(struct event_loop *loop, int op, struct event_watch *w, int fd, uint32_t events,
                   struct error *err)
{
    struct epoll_event e = { .events = events, .data.ptr = w };

    if (epoll_ctl(loop->epoll_fd, op, fd, &e) < 0)
        return error_errno(err, errno, "watch a descriptor");
    return 0;
}

int event_watch(struct event_loop *loop, struct event_watch *w, int fd, uint32_t events,
                struct error *err)
{
    if (control(loop, EPOLL_CTL_ADD, w, fd, events, err) < 0)
        return -1;
    w->fd = fd;
    return 0;
}

int event_watch_change(struct event_loop *loop, struct event_watch *w, uint32_t events,
                       struct error *err)
{
    return control(loop, EPOLL_CTL_MOD, w, w->fd, events, err);
}

void event_unwatch(struct event_loop *loop, struct event_watch *w)
{
    struct error ignored = ERROR_INIT;

    if (w->fd < 0)
        return;
    /* A descriptor that was closed behind our back is out of the epoll already. */
    (void)!control(loop, EPOLL_CTL_DEL, w, w->fd, 0, &ignored);
    w->fd = -1;
    for (int i = loop->next; i < loop->n; i++) {
        if (loop->batch[i].data.ptr == w)
            loop->batch[i].data.ptr = NULL;
    }
}

/* ---- timers ---- */

void event_timer_stop(struct event_loop *loop, struct event_timer *t)
{
    if (!t->on)
        return;
    if (t->prev != NULL)
        t->prev->next = t->next;
    else
        loop->first = t->next;
    if (t->next != NULL)
        t->next->prev = t->prev;
    t->on = false;
    t->prev = t->next = NULL;
}

void event_timer_set(struct event_loop *loop, struct event_timer *t, uint64_t at)
{
    struct event_timer *before = NULL, *after;

    event_timer_stop(loop, t);
    if (at == DEADLINE_NEVER)
        return;
    after = loop->first;
    while (after != NULL && after->at <= at) {
        before = after;
        after = after->next;
    }
    t->at = at;
    t->on = true;
    t->prev = before;
    t->next = after;
    if (before != NULL)
        before->next = t;
    else
        loop->first = t;
    if (after != NULL)
        after->prev = t;
}

/* Those that are due now: one that is set while they run waits for the next turn. */
static void fire_timers(struct event_loop *loop)
{
    uint64_t now = clock_ms();

    for (size_t bound = 0; bound < 100000; bound++) {
        struct event_timer *t = loop->first;

        if (t == NULL || t->at > now)
            return;
        event_timer_stop(loop, t);
        t->fire(t->ctx);
    }
}

/* ---- the loop ---- */

static void hand_out(struct event_loop *loop)
{
    while (loop->next < loop->n) {
        const struct epoll_event *e = &loop->batch[loop->next++];
        struct event_watch *w = e->data.ptr;

        if (w != NULL)
            w->ready(w->ctx, e->events);
    }
}

int event_loop_turn(struct event_loop *loop, uint64_t deadline, struct error *err)
{
    uint64_t until = deadline;

    if (loop->first != NULL && loop->first->at < until)
        until = loop->first->at;
    int n = epoll_wait(loop->epoll_fd, loop->batch, BATCH, deadline_poll_timeout(until));
    if (n < 0 && errno != EINTR)
        return error_errno(err, errno, "wait for events");
    loop->n = n > 0 ? n : 0;
    loop->next = 0;
    hand_out(loop);
    fire_timers(loop);
    return 0;
}

int event_loop_run(struct event_loop *loop, struct error *err)
{
    loop->stopping = false;
    while (!loop->stopping) {
        if (event_loop_turn(loop, DEADLINE_NEVER, err) < 0)
            return -1;
    }
    return 0;
}

void event_loop_stop(struct event_loop *loop)
{
    loop->stopping = true;
}

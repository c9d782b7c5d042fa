/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/connections.h"

#include "common/deadline.h"

#include <sys/socket.h>

static void append(struct connections *all, struct connection *c)
{
    c->next = NULL;
    c->prev = all->last;
    if (all->last != NULL)
        all->last->next = c;
    else
        all->first = c;
    all->last = c;
}

static void unlink_one(struct connections *all, struct connection *c)
{
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        all->first = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    else
        all->last = c->prev;
}

void connections_add(struct connections *all, struct connection *c, int fd)
{
    *c = (struct connection){ .fd = fd, .since = clock_ms() };
    (void)pthread_mutex_lock(&all->lock);
    append(all, c);
    all->n++;
    (void)pthread_mutex_unlock(&all->lock);
}

void connections_remove(struct connections *all, struct connection *c)
{
    (void)pthread_mutex_lock(&all->lock);
    unlink_one(all, c);
    all->n--;
    (void)pthread_mutex_unlock(&all->lock);
}

void connections_wait(struct connections *all, struct connection *c)
{
    (void)pthread_mutex_lock(&all->lock);
    c->waits = true;
    (void)pthread_mutex_unlock(&all->lock);
}

void connections_renew(struct connections *all, struct connection *c)
{
    (void)pthread_mutex_lock(&all->lock);
    c->since = clock_ms();
    c->waits = false;
    unlink_one(all, c);
    append(all, c);
    (void)pthread_mutex_unlock(&all->lock);
}

size_t connections_cut(struct connections *all, uint64_t max_ms, size_t most)
{
    uint64_t now = clock_ms();
    size_t n = 0, left;

    (void)pthread_mutex_lock(&all->lock);
    left = all->n;
    for (struct connection *c = all->first; c != NULL; c = c->next) {
        if (now - c->since <= max_ms && left <= most)
            break;
        if (c->waits)
            continue;
        left--;
        if (c->cut)
            continue;
        (void)shutdown(c->fd, SHUT_RDWR);
        c->cut = true;
        n++;
    }
    (void)pthread_mutex_unlock(&all->lock);
    return n;
}

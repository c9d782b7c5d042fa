/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/queue.h"

#include "common/deadline.h"
#include "scheduler/scheduler.h"

#include <time.h>

void queue_put(struct scheduler *s, struct operation *op)
{
    struct operation **at = &s->queue;

    while (*at != NULL && (*at)->due <= op->due)
        at = &(*at)->next;
    op->next = *at;
    *at = op;
    (void)pthread_cond_signal(&s->changed);
}

static void wait_until(struct scheduler *s, uint64_t at)
{
    const struct timespec ts = { .tv_sec = (time_t)(at / 1000),
                                 .tv_nsec = (long)(at % 1000) * 1000000 };

    (void)pthread_cond_timedwait(&s->changed, &s->lock, &ts);
}

static const char *node_of(const struct scheduler *s, const struct operation *op)
{
    const struct entry *e = cloud_table_by_id(s->table, op->id);

    return e != NULL && e->cloud.node[0] != '\0' ? e->cloud.node : op->node;
}

static bool may_begin(const struct scheduler *s, const struct operation *op)
{
    const char *node = node_of(s, op);
    size_t has = 0, busy = 0;

    for (size_t i = 0; i < WORKERS; i++) {
        const struct at_work *w = &s->at_work[i];

        busy += w->busy;
        has += w->busy && strcmp(w->node, node) == 0;
    }
    return node[0] == '\0' || s->n_nodes < 2 || has < WORKERS - busy;
}

/* The first that may begin as soon as it is due; NULL: none may. */
static struct operation **first(struct scheduler *s)
{
    struct operation **at = &s->queue;

    while (*at != NULL && !may_begin(s, *at))
        at = &(*at)->next;
    return *at != NULL ? at : NULL;
}

static struct at_work *free_row(struct scheduler *s)
{
    size_t row = 0;

    while (s->at_work[row].busy && row + 1 < WORKERS)
        row++;
    return &s->at_work[row];
}

struct operation *queue_take(struct scheduler *s, struct at_work **at)
{
    if (*at != NULL)
        (*at)->busy = false;
    for (;;) {
        struct operation **next = first(s), *op;

        if (next == NULL) {
            (void)pthread_cond_wait(&s->changed, &s->lock);
            continue;
        }
        op = *next;
        if (op->due > clock_ms()) {
            wait_until(s, op->due);
            continue;
        }
        *at = free_row(s);
        (*at)->busy = true;
        (void)snprintf((*at)->node, sizeof((*at)->node), "%s", node_of(s, op));
        *next = op->next;
        op->next = NULL;
        /* the row that we gave back may have let two begin: who waits looks too */
        if (s->queue != NULL)
            (void)pthread_cond_signal(&s->changed);
        return op;
    }
}

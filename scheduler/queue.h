/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue.h: the operations that wait for a worker, and which of them may begin. What is due first
 * comes first, but no node gets more workers than stay free: who waits for a node that hangs does
 * so for a minute, and with a node's clouds all workers would, and the other nodes' users with
 * them. So the first node that hangs gets half of the workers, the next one half of the rest, and
 * some are left for those that answer. Where there is one node only, it gets all.
 *
 * A part of struct scheduler, under its lock: the caller of each of these holds it.
 */
#ifndef COFFER_SCHEDULER_QUEUE_H
#define COFFER_SCHEDULER_QUEUE_H

#include "common/base.h"
#include "scheduler/driver.h"
#include "scheduler/operation.h"

#define WORKERS 16u

struct scheduler;

/* One worker's: what it has in hand. */
struct at_work {
    bool busy;
    char node[NODE_NAME_MAX + 1]; /* the cloud's; "": none is known, which counts for no node */
};

/* Before op->due nobody takes it. It is the queue's until queue_take gives it. */
void queue_put(struct scheduler *s, struct operation *op);
/* For a worker: gives back the row of what it had before (NULL: nothing yet), waits until an
 * operation may begin, and takes it with a row: there is one for each of WORKERS callers. The
 * operation is the caller's. The lock is released while it waits. */
struct operation *queue_take(struct scheduler *s, struct at_work **at);

#endif

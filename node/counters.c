/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/node.h"

#include "common/log.h"

void node_count(struct node *node, enum node_counter counter)
{
    (void)atomic_fetch_add_explicit(&node->counters[counter], 1, memory_order_relaxed);
}

static unsigned long count_of(struct node *node, enum node_counter counter)
{
    return atomic_load_explicit(&node->counters[counter], memory_order_relaxed);
}

#define COUNT(name, counter) KV(name, count_of(n, counter))

void node_log_counters(void *node)
{
    struct node *n = node;

    log_info("counters", COUNT("formatted", NODE_FORMATTED), COUNT("opened", NODE_OPENED),
             COUNT("kept", NODE_KEPT), COUNT("reaped", NODE_REAPED),
             COUNT("rolled_back", NODE_ROLLED_BACK),
             COUNT("roll_back_failed", NODE_ROLL_BACK_FAILED), COUNT("published", NODE_PUBLISHED),
             COUNT("unpublished", NODE_UNPUBLISHED), COUNT("unstaged", NODE_UNSTAGED),
             COUNT("busy", NODE_BUSY), COUNT("expanded", NODE_EXPANDED),
             COUNT("break_glass", NODE_BREAK_GLASS), COUNT("reconciled", NODE_RECONCILED));
    pool_set_log_counters(n->pools);
}

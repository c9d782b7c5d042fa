/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/node.h"

#include "common/log.h"

static const struct {
    const char *key; /* in the log */
    const char *metric, *help;
} rows[NODE_COUNTERS] = {
    [NODE_FORMATTED] = { "formatted", "coffer_node_formatted_total", "Volumes formatted." },
    [NODE_OPENED] = { "opened", "coffer_node_opened_total", "Mappings opened with a key." },
    [NODE_KEPT] = { "kept", "coffer_node_kept_total",
                    "Right mappings found, for which no key was asked." },
    [NODE_REAPED] = { "reaped", "coffer_node_reaped_total",
                      "Left-over mappings removed by a stage." },
    [NODE_ROLLED_BACK] = { "rolled_back", "coffer_node_rolled_back_total", "Stages undone." },
    [NODE_ROLL_BACK_FAILED] = { "roll_back_failed", "coffer_node_roll_back_failed_total",
                                "Stages that could not be undone whole: answered ABORTED." },
    [NODE_PUBLISHED] = { "published", "coffer_node_published_total", "Publishes done." },
    [NODE_UNPUBLISHED] = { "unpublished", "coffer_node_unpublished_total", "Unpublishes done." },
    [NODE_UNSTAGED] = { "unstaged", "coffer_node_unstaged_total", "Unstages done." },
    [NODE_BUSY] = { "busy", "coffer_node_busy_total",
                    "Teardowns refused because somebody uses the volume." },
    [NODE_EXPANDED] = { "expanded", "coffer_node_expanded_total", "Volumes grown." },
    [NODE_BREAK_GLASS] = { "break_glass", "coffer_node_break_glass_total",
                           "Passphrases given out to administrators." },
    [NODE_ROTATED] = { "rotated", "coffer_node_rotated_total",
                       "Volumes whose storage key was rotated, or whose rotation was finished." },
    [NODE_RECIPIENTS] = { "recipients", "coffer_node_recipients_total",
                          "Lists of recipients that changed." },
    [NODE_RECONCILED] = { "reconciled", "coffer_node_reconciled_total",
                          "Left-overs taken away by reconcile." },
};

void node_count(struct node *node, enum node_counter counter)
{
    (void)atomic_fetch_add_explicit(&node->counters[counter], 1, memory_order_relaxed);
}

static unsigned long count_of(struct node *node, size_t counter)
{
    return atomic_load_explicit(&node->counters[counter], memory_order_relaxed);
}

void node_log_counters(void *node)
{
    struct node *n = node;
    struct log_kv kv[NODE_COUNTERS];

    for (size_t i = 0; i < NODE_COUNTERS; i++)
        kv[i] = log_kv_uint(rows[i].key, count_of(n, i));
    if (log_enabled(LOG_LEVEL_INFO))
        log_write(LOG_LEVEL_INFO, __FILE__, __LINE__, "counters", kv, NODE_COUNTERS);
    pool_set_log_counters(n->pools);
}

void node_write_counters(struct node *node, struct metrics *m)
{
    for (size_t i = 0; i < NODE_COUNTERS; i++)
        metrics_one(m, METRIC_COUNTER, rows[i].metric, rows[i].help, count_of(node, i));
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/metrics.h: coffer-node's /metrics beside the CSI servers': counters, registration, pools,
 * mappings. Pools and mappings are looked at by rounds on a thread of their own, so that neither a
 * file system that hangs nor a helper that waits is in the way of an answer.
 */
#ifndef COFFER_NODE_METRICS_H
#define COFFER_NODE_METRICS_H

#include "backends/sampler.h"
#include "common/base.h"
#include "common/metrics.h"
#include "node/node.h"
#include "node/registration.h"

#include <pthread.h>

struct mapping_counts {
    bool looked, known; /* known: the list could be read */
    uint64_t at;        /* seconds since 1970 */
    uint64_t states[3]; /* by enum mapping_state */
};

struct node_metrics {
    struct node *node;                 /* borrowed, as is the next */
    struct registration *registration; /* NULL: it doesn't register */
    struct pool_sampler *pools;
    pthread_mutex_t lock; /* the next */
    struct mapping_counts mappings;
};

int node_metrics_init(struct node_metrics *nm, struct node *node, struct registration *registration,
                      struct error *err) MUST_CHECK;
void node_metrics_round(void *node_metrics);
void node_metrics_write(struct node_metrics *nm, struct metrics *m);

#endif

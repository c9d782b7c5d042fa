/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/metrics.h"

#include "common/deadline.h"

#include <time.h>

#define LIST_MS 10000u

static const char *const states[] = {
    [MAPPING_OK] = "ok",
    [MAPPING_ZOMBIE] = "zombie",
    [MAPPING_WRONG] = "wrong",
};

int node_metrics_init(struct node_metrics *nm, struct node *node, struct registration *registration,
                      struct error *err)
{
    nm->node = node;
    nm->registration = registration;
    (void)pthread_mutex_init(&nm->lock, NULL);
    return pool_sampler_new(node->pools, false, &nm->pools, err);
}

static struct mapping_counts look_at_mappings(const struct node *node)
{
    AUTO_MAPPING_LIST struct mapping_list list = { .n = 0 };
    struct mapping_counts c = { .looked = true, .at = (uint64_t)time(NULL) };
    struct error ignored = ERROR_INIT;

    c.known = crypt_list(&node->crypt, deadline_in(LIST_MS), &list, &ignored) == 0;
    for (size_t i = 0; i < list.n; i++)
        c.states[list.items[i].state]++;
    return c;
}

void node_metrics_round(void *node_metrics)
{
    struct node_metrics *nm = node_metrics;
    struct mapping_counts now = look_at_mappings(nm->node);

    (void)pthread_mutex_lock(&nm->lock);
    nm->mappings = now;
    (void)pthread_mutex_unlock(&nm->lock);
    pool_sampler_round(nm->pools); /* last: it may hang */
}

static void write_mappings(struct node_metrics *nm, struct metrics *m)
{
    (void)pthread_mutex_lock(&nm->lock);
    struct mapping_counts c = nm->mappings;
    (void)pthread_mutex_unlock(&nm->lock);
    metrics_family(m, METRIC_GAUGE, "coffer_node_mappings_up",
                   "1 when the node's device-mapper devices could be listed, else 0.");
    if (c.looked)
        metrics_sample(m, NULL, c.known ? 1 : 0);
    metrics_family(m, METRIC_GAUGE, "coffer_node_mappings_sampled_timestamp_seconds",
                   "When the mappings were last looked at.");
    if (c.looked)
        metrics_sample(m, NULL, c.at);
    metrics_family(m, METRIC_GAUGE, "coffer_node_mappings",
                   "Mappings of Coffer on this node, by state.");
    for (size_t i = 0; c.known && i < ARRAY_SIZE(states); i++)
        metrics_sample(m, LABELS({ "state", states[i] }), c.states[i]);
}

static void write_registration(const struct registration *r, struct metrics *m)
{
    metrics_family(m, METRIC_GAUGE, "coffer_node_registered",
                   "1 when kubelet has accepted the driver; none without --registration.");
    if (r != NULL)
        metrics_sample(m, NULL, atomic_load(&r->registered) ? 1 : 0);
    metrics_family(m, METRIC_COUNTER, "coffer_node_registration_requests_total",
                   "How often kubelet asked what this plugin is.");
    if (r != NULL)
        metrics_sample(m, NULL, atomic_load(&r->asked));
    metrics_family(m, METRIC_COUNTER, "coffer_node_registrations_total",
                   "What kubelet said about the registration, by result.");
    if (r == NULL)
        return;
    metrics_sample(m, LABELS({ "result", "accepted" }), atomic_load(&r->accepted));
    metrics_sample(m, LABELS({ "result", "refused" }), atomic_load(&r->refusals));
}

void node_metrics_write(struct node_metrics *nm, struct metrics *m)
{
    node_write_counters(nm->node, m);
    write_registration(nm->registration, m);
    write_mappings(nm, m);
    pool_sampler_write(nm->pools, m);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/metrics.h"

#include "common/deadline.h"
#include "scheduler/answer.h"

#define HANGS_MS (4 * (uint64_t)CALL_MS)

bool scheduler_healthy(void *ctx, struct strbuf *why)
{
    struct scheduler *s = ctx;
    uint64_t ended = atomic_load(&s->round_ended);

    if (ended == 0 || clock_ms() - ended < HANGS_MS)
        return true;
    strbuf_adds(why, "the rounds hang");
    return false;
}

static bool count_one(void *ctx, struct entry *e)
{
    uint64_t *counts = ctx;

    counts[answer_status(e)]++;
    return true;
}

static void write_clouds(struct scheduler *s, struct metrics *m)
{
    uint64_t counts[ARRAY_SIZE(cloud_status_names)] = { 0 }, age = 0, running;
    size_t nodes, unread[2] = { 0 };

    scheduler_lock(s);
    cloud_table_each(s->table, count_one, counts);
    if (s->round_at != 0)
        age = (clock_ms() - s->round_at) / 1000;
    running = s->n_operations;
    nodes = s->n_nodes;
    for (size_t i = 0; i < s->unread.n; i++)
        unread[unread_is_node(&s->unread.items[i]) ? 1 : 0]++;
    scheduler_unlock(s);
    metrics_family(m, METRIC_GAUGE, "coffer_scheduler_clouds", "Clouds by what find says of them.");
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
        metrics_sample(m, LABELS({ "status", cloud_status_names[i] }), counts[i]);
    metrics_one(m, METRIC_GAUGE, "coffer_scheduler_nodes", "Nodes that the driver told of.", nodes);
    metrics_one(m, METRIC_GAUGE, "coffer_scheduler_operations_running",
                "Operations that are queued or run.", running);
    metrics_one(m, METRIC_GAUGE, "coffer_scheduler_facts_age_seconds",
                "Since the last round that went well began.", age);
    metrics_family(m, METRIC_GAUGE, "coffer_scheduler_unreadable",
                   "What that round couldn't read: single clouds, and whole nodes.");
    metrics_sample(m, LABELS({ "what", "cloud" }), unread[0]);
    metrics_sample(m, LABELS({ "what", "node" }), unread[1]);
}

static void write_operations(struct scheduler *s, struct metrics *m)
{
    static const char *const results[] = { "ok", "error" };

    metrics_family(m, METRIC_COUNTER, "coffer_scheduler_operations_total",
                   "Operations that ended, by kind and result.");
    for (size_t k = 0; k < OPERATION_KINDS; k++) {
        for (size_t i = 0; i < ARRAY_SIZE(results); i++)
            metrics_sample(
                m, LABELS({ "operation", operation_kind_names[k] }, { "result", results[i] }),
                atomic_load(&s->counters.operations[k][i]));
    }
    metrics_family(m, METRIC_COUNTER, "coffer_scheduler_rounds_total",
                   "Rounds that asked the driver for every cloud.");
    for (size_t i = 0; i < ARRAY_SIZE(results); i++)
        metrics_sample(m, LABELS({ "result", results[i] }), atomic_load(&s->counters.rounds[i]));
}

void scheduler_write_metrics(void *ctx, struct metrics *m)
{
    static const char *const classes[COUNTED_STATUS] = { "0xx", "1xx", "2xx", "3xx", "4xx", "5xx" };
    struct scheduler *s = ctx;

    write_clouds(s, m);
    write_operations(s, m);
    metrics_family(m, METRIC_COUNTER, "coffer_scheduler_requests_total",
                   "HTTP requests that were answered, by class of status.");
    for (size_t i = 2; i < COUNTED_STATUS; i++)
        metrics_sample(m, LABELS({ "status", classes[i] }), atomic_load(&s->counters.requests[i]));
    metrics_one(m, METRIC_COUNTER, "coffer_scheduler_challenges_total", "Challenges given.",
                atomic_load(&s->counters.challenges));
    metrics_one(m, METRIC_COUNTER, "coffer_scheduler_proofs_refused_total",
                "Requests whose proof was missing, wrong, used or over.",
                atomic_load(&s->counters.proofs_refused));
    metrics_one(m, METRIC_GAUGE, "coffer_scheduler_connections", "Connections that are open.",
                atomic_load(&s->counters.connections));
    metrics_one(m, METRIC_COUNTER, "coffer_scheduler_connections_cut_total",
                "Connections that were ended: too slow, or there were too many.",
                atomic_load(&s->counters.cut));
    metrics_one(m, METRIC_GAUGE, "coffer_scheduler_certificate_expiry_timestamp_seconds",
                "When the certificate that is shown ends, since 1970; 0: none is shown.",
                atomic_load(&s->counters.certificate_expires));
    metrics_family(m, METRIC_HISTOGRAM, "coffer_scheduler_find_seconds",
                   "Time to make the answer of a find.");
    metrics_histogram(m, NULL, &s->counters.find_us);
}

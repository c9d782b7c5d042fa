/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "controller/controller.h"

#include "common/log.h"

#define ROW(name) offsetof(struct controller_counters, name), #name

static const struct {
    size_t offset;
    const char *key; /* in the log */
    const char *metric, *help;
} rows[] = {
    { ROW(created), "coffer_controller_created_total", "Volumes created." },
    { ROW(create_repeated), "coffer_controller_create_repeated_total",
      "Creates of volumes that were there already." },
    { ROW(create_rolled_back), "coffer_controller_create_rolled_back_total",
      "Creates that failed and were undone." },
    { ROW(mint_failed), "coffer_controller_mint_failed_total",
      "Creates that got no key from coffer-keyd." },
    { ROW(deleted), "coffer_controller_deleted_total", "Volumes deleted." },
    { ROW(delete_in_use), "coffer_controller_delete_in_use_total",
      "Deletes refused because the volume is in use." },
    { ROW(expanded), "coffer_controller_expanded_total", "Volumes grown." },
    { ROW(pool_full), "coffer_controller_pool_full_total",
      "Creates and expansions for which a pool had no room." },
};

static unsigned long long count_of(struct controller *c, size_t row)
{
    atomic_ullong *counter = (atomic_ullong *)(void *)((char *)&c->counters + rows[row].offset);

    return atomic_load(counter);
}

void controller_log_counters(struct controller *c)
{
    struct log_kv kv[ARRAY_SIZE(rows)];

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        kv[i] = log_kv_uint(rows[i].key, count_of(c, i));
    if (log_enabled(LOG_LEVEL_INFO))
        log_write(LOG_LEVEL_INFO, __FILE__, __LINE__, "counters", kv, ARRAY_SIZE(rows));
    pool_set_log_counters(c->pools);
}

void controller_write_counters(struct controller *c, struct metrics *m)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        metrics_one(m, METRIC_COUNTER, rows[i].metric, rows[i].help, count_of(c, i));
}

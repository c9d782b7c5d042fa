/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pressure.c: how full a pool really is, said once when it passes 80 or 95 % and once when it is
 * over. There is no thread for it: pool_ready, which every call that touches a pool begins with,
 * brings fresh figures, as do the rounds for /metrics. (kubelet's questions for statistics don't:
 * they never touch a pool.)
 */
#include "common/base.h"
#include "backends/backend.h"

#include "common/log.h"

#define HYSTERESIS 2 /* percent below a threshold until it counts as left */

static const unsigned thresholds[POOL_PRESSURE_MAX] = { 80, 95 };

/* As df says it: of what an ordinary user can ever have. */
static unsigned percent_used(const struct pool *pool)
{
    uint64_t used = atomic_load(&pool->used), free_bytes = atomic_load(&pool->free);
    long double all = (long double)used + (long double)free_bytes;

    return all > 0 ? (unsigned)((long double)used * 100 / all) : 0;
}

static unsigned level_of(unsigned percent, unsigned before)
{
    unsigned level = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(thresholds); i++) {
        unsigned least = thresholds[i] - (i < before ? HYSTERESIS : 0);

        if (percent >= least)
            level = i + 1;
    }
    return level;
}

unsigned pool_watch(struct pool *pool)
{
    unsigned percent = percent_used(pool), before = atomic_load(&pool->pressure);
    unsigned now = level_of(percent, before);

    /* of several threads that see the same crossing one says it */
    if (now == before || !atomic_compare_exchange_strong(&pool->pressure, &before, now))
        return atomic_load(&pool->pressure);
    if (now > before)
        log_warn("a pool is filling up", KV("pool", pool->config->name),
                 KV("used_percent", percent), KV("threshold", thresholds[now - 1]),
                 KV("free_mib", atomic_load(&pool->free) / MIB(1)));
    else
        log_info("a pool has space again", KV("pool", pool->config->name),
                 KV("used_percent", percent), KV("threshold", thresholds[before - 1]),
                 KV("free_mib", atomic_load(&pool->free) / MIB(1)));
    return now;
}

static void log_pool(struct pool *pool, unsigned over[POOL_PRESSURE_MAX])
{
    struct pool_capacity c = { .total = 0 };
    struct error err = ERROR_INIT;
    unsigned level;

    if (pool_ready(pool, &err) < 0) {
        log_info("pool", KV("pool", pool->config->name), KV("error", err.msg));
        return;
    }
    level = pool_watch(pool);
    for (unsigned i = 0; i < level; i++)
        over[i]++;
    if (pool->ops->look(pool, &c, &err) < 0)
        log_info("pool", KV("pool", pool->config->name), KV("allocate", pool->config->allocate),
                 KV("used_percent", percent_used(pool)), KV("error", err.msg));
    else
        log_info("pool", KV("pool", pool->config->name), KV("allocate", pool->config->allocate),
                 KV("used_percent", percent_used(pool)), KV("total_mib", c.total / MIB(1)),
                 KV("free_mib", c.free / MIB(1)), KV("promised_mib", c.promised / MIB(1)),
                 KV("available_mib", c.available / MIB(1)));
}

void pool_set_log_counters(struct pool_set *set)
{
    unsigned over[ARRAY_SIZE(thresholds)] = { 0 };

    for (size_t i = 0; i < set->n; i++)
        log_pool(set->pools[i], over);
    log_info("pools", KV("pools", set->n), KV("over_80_percent", over[0]),
             KV("over_95_percent", over[1]));
}

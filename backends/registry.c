/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "backends/backend.h"

#include "backends/file.h"

#include <unistd.h>

static const struct backend_ops *const backends[] = {
    &file_backend,
};

const struct backend_ops *backend_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(backends); i++) {
        if (strcmp(backends[i]->name, name) == 0)
            return backends[i];
    }
    return NULL;
}

static void pool_free(struct pool *pool)
{
    if (pool == NULL)
        return;
    if (atomic_load(&pool->opened))
        pool->ops->pool_close(pool);
    (void)pthread_mutex_destroy(&pool->opening);
    free(pool);
}

static struct pool *pool_new(const struct pool_config *config, const struct backend_ops *ops)
{
    struct pool *pool = calloc(1, sizeof(*pool));

    if (pool == NULL)
        return NULL;
    pool->ops = ops;
    pool->config = config;
    atomic_init(&pool->opened, false);
    atomic_init(&pool->used, 0);
    atomic_init(&pool->free, 0);
    atomic_init(&pool->pressure, 0);
    if (pthread_mutex_init(&pool->opening, NULL) != 0) {
        free(pool);
        return NULL;
    }
    return pool;
}

void pool_set_free(struct pool_set *set)
{
    if (set == NULL)
        return;
    for (size_t i = 0; i < set->n; i++)
        pool_free(set->pools[i]);
    free(set->pools);
    free(set);
}

/* Two names for one place would give every volume in it two ids. */
static int check_pool(const struct pool_set *set, const struct pool_config *config,
                      const struct backend_ops *ops, struct error *err)
{
    for (size_t i = 0; i < set->n; i++) {
        const struct pool *other = set->pools[i];

        if (other->ops == ops && strcmp(other->config->path, config->path) == 0)
            return error_set(err, ERR_INVALID, "pools '%s' and '%s' have the same path '%s'",
                             other->config->name, config->name, config->path);
        if (other->ops->node_local != ops->node_local)
            return error_set(err, ERR_INVALID,
                             "pools '%s' and '%s' are of different kinds: one is on this node "
                             "only, the other is "
                             "shared; run one driver for each kind",
                             other->config->name, config->name);
    }
    return 0;
}

static int pool_set_add(struct pool_set *set, const struct pool_config *config, struct error *err)
{
    const struct backend_ops *ops = backend_find(config->backend);

    if (ops == NULL)
        return error_set(err, ERR_INVALID, "pool '%s': unknown backend '%s'", config->name,
                         config->backend);
    if (check_pool(set, config, ops, err) < 0)
        return -1;
    set->pools[set->n] = pool_new(config, ops);
    if (set->pools[set->n] == NULL)
        return error_set(err, ERR_EXHAUSTED, "pool '%s': out of memory", config->name);
    set->n++;
    return 0;
}

int pool_set_open(const struct config *config, struct pool_set **ret, struct error *err)
{
    AUTO_POOL_SET struct pool_set *set = calloc(1, sizeof(*set));
    struct error late = ERROR_INIT;

    if (set == NULL)
        return error_set(err, ERR_EXHAUSTED, "open the pools: out of memory");
    set->pools = calloc(config->n_pools + 1, sizeof(struct pool *));
    if (set->pools == NULL)
        return error_set(err, ERR_EXHAUSTED, "open the pools: out of memory");
    for (size_t i = 0; i < config->n_pools; i++) {
        if (pool_set_add(set, &config->pools[i], err) < 0)
            return -1;
        /* A pool that isn't there now is tried again by every call. */
        (void)!pool_ready(set->pools[i], &late);
    }
    *ret = TAKE_PTR(set);
    return 0;
}

struct pool *pool_set_find(struct pool_set *set, const char *name)
{
    for (size_t i = 0; i < set->n; i++) {
        if (strcmp(set->pools[i]->config->name, name) == 0)
            return set->pools[i];
    }
    return NULL;
}

static int check_tag(const struct pool *pool, const struct volume_id *id, struct error *err)
{
    if (strcmp(pool->tag, id->pool_tag) == 0)
        return 0;
    return error_set(err, ERR_PRECONDITION,
                     "the volume id names pool '%s' with tag %s, but the pool of that name here "
                     "has tag %s: it is "
                     "another pool",
                     id->pool, id->pool_tag, pool->tag);
}

int pool_set_for_id(struct pool_set *set, const struct volume_id *id, struct pool **ret,
                    struct error *err)
{
    struct pool *pool = pool_set_find(set, id->pool);

    if (pool == NULL)
        return error_set(err, ERR_NOT_FOUND, "the configuration has no pool '%s'", id->pool);
    if (pool_ready(pool, err) < 0 || check_tag(pool, id, err) < 0)
        return -1;
    *ret = pool;
    return 0;
}

static int pool_open_late(struct pool *pool, struct error *err)
{
    int r = 0;

    (void)pthread_mutex_lock(&pool->opening);
    if (!atomic_load(&pool->opened)) {
        r = pool->ops->pool_open(pool, err);
        if (r == 0)
            atomic_store(&pool->opened, true);
    }
    (void)pthread_mutex_unlock(&pool->opening);
    return r;
}

int pool_ready(struct pool *pool, struct error *err)
{
    if (!atomic_load(&pool->opened) && pool_open_late(pool, err) < 0)
        return -1;
    return pool->ops->pool_check(pool, err);
}

int volume_open(struct pool *pool, const struct volume_id *id, bool create, struct volume *ret,
                struct error *err)
{
    struct volume v = VOLUME_INIT;

    if (pool_ready(pool, err) < 0)
        return -1;
    if (strcmp(pool->config->name, id->pool) != 0)
        return error_set(err, ERR_INTERNAL, "a volume of pool '%s' was looked for in pool '%s'",
                         id->pool, pool->config->name);
    if (check_tag(pool, id, err) < 0)
        return -1;
    v.pool = pool;
    v.id = *id;
    if (pool->ops->open(pool, id, create, &v, err) < 0)
        return -1;
    *ret = v;
    return 0;
}

void volume_close(struct volume *v)
{
    /* The lock goes last: nothing of this volume is open any more when another process gets it. */
    cleanup_close(&v->dir_fd);
    cleanup_close(&v->lock_fd);
    *v = (struct volume)VOLUME_INIT;
}

void block_device_close(struct block_device *d)
{
    cleanup_close(&d->fd);
    *d = (struct block_device)BLOCK_DEVICE_INIT;
}

/* ---- all pools in the order of their volumes' ids ---- */

/* '-' sorts before '.', so "a-b.…" is before "a.…": pools go by their name with the dot. */
static int compare_pools(const void *a, const void *b)
{
    const struct pool *const *x = a, *const *y = b;
    char left[POOL_NAME_MAX + 2], right[POOL_NAME_MAX + 2];

    (void)snprintf(left, sizeof(left), "%s.", (*x)->config->name);
    (void)snprintf(right, sizeof(right), "%s.", (*y)->config->name);
    return strcmp(left, right);
}

struct listing {
    list_record_cb *cb;
    void *ctx;
    bool stopped;
};

static bool on_record(void *ctx, const char *id, const struct record_summary *summary,
                      const struct error *problem)
{
    struct listing *l = ctx;

    l->stopped = !l->cb(l->ctx, id, summary, problem);
    return !l->stopped;
}

int pool_set_list_records(const struct pool_set *set, const char *after, list_record_cb *cb,
                          void *ctx, struct error *err)
{
    struct listing l = { .cb = cb, .ctx = ctx };
    AUTO_FREE struct pool **sorted = calloc(set->n + 1, sizeof(struct pool *));

    if (sorted == NULL)
        return error_set(err, ERR_EXHAUSTED, "out of memory for the list");
    for (size_t i = 0; i < set->n; i++)
        sorted[i] = set->pools[i];
    qsort(sorted, set->n, sizeof(struct pool *), compare_pools);
    for (size_t i = 0; i < set->n && !l.stopped; i++) {
        if (pool_ready(sorted[i], err) < 0 ||
            sorted[i]->ops->list_records(sorted[i], after, on_record, &l, err) < 0)
            return -1;
    }
    return 0;
}

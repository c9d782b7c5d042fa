/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "backends/sampler.h"

#include <pthread.h>
#include <time.h>

struct sample {
    bool looked, up, has_capacity, has_volumes;
    uint64_t at; /* seconds since 1970 */
    struct pool_capacity capacity;
    uint64_t volumes, unreadable;
};

struct pool_sampler {
    struct pool_set *set;
    bool count;
    pthread_mutex_t lock;
    struct sample *samples; /* one for each pool */
};

int pool_sampler_new(struct pool_set *set, bool count, struct pool_sampler **ret, struct error *err)
{
    struct pool_sampler *s = calloc(1, sizeof(*s));
    struct sample *samples = calloc(set->n + 1, sizeof(*samples));

    if (s == NULL || samples == NULL) {
        free(s);
        free(samples);
        return error_memory(err);
    }
    *s = (struct pool_sampler){ .set = set, .count = count, .samples = samples };
    (void)pthread_mutex_init(&s->lock, NULL);
    *ret = s;
    return 0;
}

void pool_sampler_free(struct pool_sampler *s)
{
    if (s == NULL)
        return;
    (void)pthread_mutex_destroy(&s->lock);
    free(s->samples);
    free(s);
}

/* ---- a round ---- */

static bool count_one(void *ctx, const char *id UNUSED, const struct record_summary *summary,
                      const struct error *problem UNUSED)
{
    struct sample *sample = ctx;

    sample->volumes++;
    if (summary == NULL)
        sample->unreadable++;
    return true;
}

static struct sample look_at(struct pool *pool, bool count)
{
    struct sample s = { .looked = true, .at = (uint64_t)time(NULL) };
    struct error ignored = ERROR_INIT;

    s.up = pool_ready(pool, &ignored) == 0;
    if (!s.up)
        return s;
    (void)pool_watch(pool); /* a pool fills without any call */
    s.has_capacity =
        (count ? pool->ops->capacity : pool->ops->look)(pool, &s.capacity, &ignored) == 0;
    s.has_volumes = count && pool->ops->list_records(pool, "", count_one, &s, &ignored) == 0;
    return s;
}

void pool_sampler_round(void *sampler)
{
    struct pool_sampler *s = sampler;

    for (size_t i = 0; i < s->set->n; i++) {
        struct sample now = look_at(s->set->pools[i], s->count);

        (void)pthread_mutex_lock(&s->lock);
        s->samples[i] = now;
        (void)pthread_mutex_unlock(&s->lock);
    }
}

/* ---- what it found ---- */

static bool get_up(const struct sample *s, uint64_t *ret)
{
    *ret = s->up ? 1 : 0;
    return s->looked;
}

static bool get_at(const struct sample *s, uint64_t *ret)
{
    *ret = s->at;
    return s->looked;
}

static bool get_size(const struct sample *s, uint64_t *ret)
{
    *ret = s->capacity.total;
    return s->has_capacity;
}

static bool get_free(const struct sample *s, uint64_t *ret)
{
    *ret = s->capacity.free;
    return s->has_capacity;
}

static bool get_promised(const struct sample *s, uint64_t *ret)
{
    *ret = s->capacity.promised;
    return s->has_capacity;
}

static bool get_available(const struct sample *s, uint64_t *ret)
{
    *ret = s->capacity.available;
    return s->has_capacity;
}

static bool get_volumes(const struct sample *s, uint64_t *ret)
{
    *ret = s->volumes;
    return s->has_volumes;
}

static bool get_unreadable(const struct sample *s, uint64_t *ret)
{
    *ret = s->unreadable;
    return s->has_volumes;
}

static const struct family {
    const char *name, *help;
    bool (*get)(const struct sample *s, uint64_t *ret); /* false: not known */
    bool counted;                                       /* only where volumes are counted */
} families[] = {
    { "coffer_pool_up", "1 when the pool is there, 0 when its place isn't (is it mounted?).",
      get_up, false },
    { "coffer_pool_sampled_timestamp_seconds",
      "When the pool was last looked at: its figures are that old.", get_at, false },
    { "coffer_pool_size_bytes", "Size of the pool's file system.", get_size, false },
    { "coffer_pool_free_bytes", "Free space of the pool's file system, as it really is.", get_free,
      false },
    { "coffer_pool_available_bytes", "Room for new volumes.", get_available, false },
    { "coffer_pool_promised_bytes",
      "Sizes of all images of a sparse pool; 0 for a full one, which reserves them.", get_promised,
      false },
    { "coffer_pool_volumes", "Volumes in the pool, unfinished ones included.", get_volumes, true },
    { "coffer_pool_unreadable_records", "Volumes whose record can't be read.", get_unreadable,
      true },
};

static void write_family(struct pool_sampler *s, const struct family *f, struct metrics *m)
{
    metrics_family(m, METRIC_GAUGE, f->name, f->help);
    for (size_t i = 0; i < s->set->n; i++) {
        uint64_t value = 0;

        if (f->get(&s->samples[i], &value))
            metrics_sample(m, LABELS({ "pool", s->set->pools[i]->config->name }), value);
    }
}

void pool_sampler_write(struct pool_sampler *s, struct metrics *m)
{
    (void)pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
        if (s->count || !families[i].counted)
            write_family(s, &families[i], m);
    }
    (void)pthread_mutex_unlock(&s->lock);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/table.h"

#include "common/strbuf.h"

#define BUCKETS_MIN 256u

/* One way to an entry: its id, or a device's name. */
struct way {
    char key[DEVICE_NAME_LEN + 1];
    struct entry *entry;
    struct way *next;
};

struct cloud_table {
    struct way **buckets;
    size_t n_buckets; /* a power of two */
    size_t n_ways;
    struct entry *entries;
    size_t n_entries;
};

int cloud_table_new(struct cloud_table **ret, struct error *err)
{
    struct cloud_table *t = calloc(1, sizeof(*t));

    if (t != NULL)
        t->buckets = calloc(BUCKETS_MIN, sizeof(struct way *));
    if (t == NULL || t->buckets == NULL) {
        free(t);
        return error_memory(err);
    }
    t->n_buckets = BUCKETS_MIN;
    *ret = t;
    return 0;
}

/* FNV-1a. Names are digests; who looks for one of a given bucket gains a longer chain. */
static size_t bucket_of(const struct cloud_table *t, const char *key)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (; *key != '\0'; key++)
        h = (h ^ (unsigned char)*key) * 0x100000001b3u;
    return (size_t)(h ^ h >> 32) & (t->n_buckets - 1);
}

/* Failing leaves longer chains: not an error. */
static void grow(struct cloud_table *t)
{
    struct way **old = t->buckets, **buckets = calloc(t->n_buckets * 2, sizeof(struct way *));
    size_t n = t->n_buckets;

    if (buckets == NULL)
        return;
    t->buckets = buckets;
    t->n_buckets = n * 2;
    for (size_t i = 0; i < n; i++) {
        for (struct way *w = old[i], *next; w != NULL; w = next) {
            struct way **to = &buckets[bucket_of(t, w->key)];

            next = w->next;
            w->next = *to;
            *to = w;
        }
    }
    free(old);
}

static int way_new(const char *key, struct way **ret, struct error *err)
{
    struct way *w = calloc(1, sizeof(*w));

    if (w == NULL)
        return error_memory(err);
    if (str_copy(w->key, sizeof(w->key), key) < 0) {
        free(w);
        return error_set(err, ERR_INTERNAL, "a cloud has a name that is too long");
    }
    *ret = w;
    return 0;
}

static void free_ways(struct way *w)
{
    for (struct way *next; w != NULL; w = next) {
        next = w->next;
        free(w);
    }
}

/* To each of the cloud's devices. */
static int ways_new(const struct cloud *c, struct way **ret, struct error *err)
{
    struct way *all = NULL;

    for (size_t i = 0; i < c->n_devices; i++) {
        struct way *w = NULL;

        if (way_new(c->devices[i].name, &w, err) < 0) {
            free_ways(all);
            return -1;
        }
        w->next = all;
        all = w;
    }
    *ret = all;
    return 0;
}

/* Each of the chain. */
static void add_ways(struct cloud_table *t, struct way *w, struct entry *e)
{
    for (struct way *next; w != NULL; w = next) {
        struct way **to;

        next = w->next;
        if (t->n_ways >= t->n_buckets)
            grow(t);
        to = &t->buckets[bucket_of(t, w->key)];
        w->entry = e;
        w->next = *to;
        *to = w;
        t->n_ways++;
    }
}

static void remove_way(struct cloud_table *t, const char *key, const struct entry *e)
{
    for (struct way **at = &t->buckets[bucket_of(t, key)]; *at != NULL; at = &(*at)->next) {
        struct way *w = *at;

        if (w->entry != e || strcmp(w->key, key) != 0)
            continue;
        *at = w->next;
        free(w);
        t->n_ways--;
        return;
    }
}

/* Whether e is to be found by that name rather than the one found so far. */
static bool is_better(const struct entry *e, const struct entry *found, const char *name)
{
    bool made = strncmp(name, e->cloud.id, CLOUD_ID_LEN) == 0;

    if (found == NULL || made)
        return true;
    return strncmp(name, found->cloud.id, CLOUD_ID_LEN) != 0 &&
           strcmp(e->cloud.id, found->cloud.id) < 0;
}

static struct entry *look_up(const struct cloud_table *t, const char *key)
{
    struct entry *found = NULL;

    for (struct way *w = t->buckets[bucket_of(t, key)]; w != NULL; w = w->next) {
        if (strcmp(w->key, key) == 0 && is_better(w->entry, found, key))
            found = w->entry;
    }
    return found;
}

struct entry *cloud_table_by_id(const struct cloud_table *t, const char *id)
{
    return strlen(id) == CLOUD_ID_LEN ? look_up(t, id) : NULL;
}

struct entry *cloud_table_by_device(const struct cloud_table *t, const char *name)
{
    return strlen(name) == DEVICE_NAME_LEN ? look_up(t, name) : NULL;
}

static void forget_devices(struct cloud_table *t, struct entry *e)
{
    for (size_t i = 0; i < e->cloud.n_devices; i++)
        remove_way(t, e->cloud.devices[i].name, e);
    cloud_clear(&e->cloud);
}

static int make_entry(struct cloud_table *t, const char *id, struct entry **ret, struct error *err)
{
    struct entry *e = calloc(1, sizeof(*e));
    struct way *w = NULL;

    if (e == NULL)
        return error_memory(err);
    if (way_new(id, &w, err) < 0) {
        free(e);
        return -1;
    }
    add_ways(t, w, e);
    e->next = t->entries;
    t->entries = e;
    t->n_entries++;
    *ret = e;
    return 0;
}

/* An entry that one of its devices doesn't lead to would stay so: the next facts are the same. */
int cloud_table_put(struct cloud_table *t, struct cloud *c, uint64_t seq, struct entry **ret,
                    struct error *err)
{
    struct entry *e = cloud_table_by_id(t, c->id);
    struct way *ways = NULL;

    if (!cloud_id_valid(c->id))
        return error_set(err, ERR_INTERNAL, "a cloud has an id that is none");
    if (ways_new(c, &ways, err) < 0)
        return -1;
    if (e == NULL && make_entry(t, c->id, &e, err) < 0) {
        free_ways(ways);
        return -1;
    }
    forget_devices(t, e);
    e->cloud = *c;
    *c = (struct cloud){ .devices = NULL };
    e->seq = seq;
    add_ways(t, ways, e);
    if (ret != NULL)
        *ret = e;
    return 0;
}

void cloud_table_remove(struct cloud_table *t, struct entry *e)
{
    char id[CLOUD_ID_LEN + 1];

    memcpy(id, e->cloud.id, sizeof(id));
    forget_devices(t, e);
    remove_way(t, id, e);
    for (struct entry **at = &t->entries; *at != NULL; at = &(*at)->next) {
        if (*at != e)
            continue;
        *at = e->next;
        break;
    }
    t->n_entries--;
    free(e);
}

void cloud_table_each(struct cloud_table *t, entry_cb *cb, void *ctx)
{
    for (struct entry *e = t->entries, *next; e != NULL; e = next) {
        next = e->next;
        if (!cb(ctx, e))
            return;
    }
}

size_t cloud_table_size(const struct cloud_table *t)
{
    return t->n_entries;
}

static bool remove_one(void *ctx, struct entry *e)
{
    cloud_table_remove(ctx, e);
    return true;
}

void cloud_table_free(struct cloud_table *t)
{
    if (t == NULL)
        return;
    cloud_table_each(t, remove_one, t);
    free(t->buckets);
    free(t);
}

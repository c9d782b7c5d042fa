/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "backends/file_cache.h"

#include "backends/file.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>

#define ALLOCATION 16 /* what malloc keeps for itself, counted too */

/* What a file was when it was looked at. */
struct stamp {
    ino_t ino;
    struct timespec changed;
    off_t size;
};

/* What a record said. */
struct said {
    uint64_t size;
    uint8_t state, discard, pod;
    uint8_t tenant, kms, key_source; /* where in text */
    char text[];                     /* uuid, tenant, kms, key source */
};
_Static_assert(sizeof(((struct record *)NULL)->uuid) + TENANT_MAX + 1 + KMS_NAME_MAX + 1 <=
                   UINT8_MAX,
               "the texts' places fit");

struct seen {
    struct file_name name;
    struct stamp record; /* when said */
    struct said *said;   /* NULL: its record must be read */
};

struct shard {
    pthread_mutex_t lock;
    bool settled; /* `names` says what is in it */
    dev_t dev;
    struct stamp names;
    struct seen *items; /* ascending */
    size_t n;
    size_t bytes, counted; /* held; of them in cache.bytes */
};

struct file_cache {
    atomic_size_t bytes;
    struct shard shards[FILE_SHARDS];
};

static struct stamp stamp_of(const struct stat *st)
{
    return (struct stamp){ .ino = st->st_ino, .changed = st->st_ctim, .size = st->st_size };
}

static bool is_of(const struct stamp *s, const struct stat *st)
{
    return s->ino == st->st_ino && s->changed.tv_sec == st->st_ctim.tv_sec &&
           s->changed.tv_nsec == st->st_ctim.tv_nsec && s->size == st->st_size;
}

/* ---- what is held ---- */

static size_t said_bytes(const struct said *s)
{
    const char *last = s->text + s->key_source;

    return ALLOCATION + sizeof(*s) + s->key_source + strlen(last) + 1;
}

static void forget(struct shard *s, struct seen *v)
{
    if (v->said == NULL)
        return;
    s->bytes -= said_bytes(v->said);
    cleanup_free(&v->said);
    v->said = NULL;
}

static void forget_shard(struct shard *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->items[i].said);
    free(s->items);
    s->items = NULL;
    s->n = s->bytes = 0;
    s->settled = false;
}

static uint8_t put(struct said *s, size_t *at, const char *text)
{
    size_t here = *at, len = strlen(text) + 1;

    memcpy(s->text + here, text, len);
    *at += len;
    return (uint8_t)here;
}

static struct said *said_new(const struct record_summary *r)
{
    size_t at = 0;
    struct said *s = malloc(sizeof(*s) + strlen(r->uuid) + strlen(r->tenant) + strlen(r->kms) +
                            strlen(r->key_source) + 4);

    if (s == NULL)
        return NULL;
    s->size = r->size;
    s->state = (uint8_t)r->state;
    s->discard = r->discard;
    s->pod = r->pod;
    (void)put(s, &at, r->uuid);
    s->tenant = put(s, &at, r->tenant);
    s->kms = put(s, &at, r->kms);
    s->key_source = put(s, &at, r->key_source);
    return s;
}

static struct record_summary summary_of(const struct said *s)
{
    return (struct record_summary){ .size = s->size,
                                    .state = (enum record_state)s->state,
                                    .discard = s->discard != 0,
                                    .pod = s->pod != 0,
                                    .uuid = s->text,
                                    .tenant = s->text + s->tenant,
                                    .kms = s->text + s->kms,
                                    .key_source = s->text + s->key_source };
}

void file_cache_free(struct file_cache *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < FILE_SHARDS; i++) {
        forget_shard(&c->shards[i]);
        (void)pthread_mutex_destroy(&c->shards[i].lock);
    }
    free(c);
}

/* Two first lists may make one each. */
static struct file_cache *cache_of(struct file_pool *pool)
{
    struct file_cache *c = atomic_load(&pool->cache), *none = NULL;

    if (c != NULL)
        return c;
    c = calloc(1, sizeof(*c));
    if (c == NULL)
        return NULL;
    for (size_t i = 0; i < FILE_SHARDS; i++)
        (void)pthread_mutex_init(&c->shards[i].lock, NULL);
    if (atomic_compare_exchange_strong(&pool->cache, &none, c))
        return c;
    file_cache_free(c);
    return none;
}

/* The shards that come first stay: a list goes round, so making room for the latest would leave
 * nothing of use. */
static void keep_within(struct file_cache *c, struct shard *s, size_t max)
{
    size_t others = atomic_fetch_add(&c->bytes, s->bytes - s->counted) - s->counted;

    s->counted = s->bytes;
    if (s->bytes == 0 || (others <= max && s->bytes <= max - others))
        return;
    forget_shard(s);
    (void)atomic_fetch_sub(&c->bytes, s->counted);
    s->counted = 0;
}

/* ---- one list ---- */

struct walk {
    struct pool *pool;
    int root, volumes;
    struct timespec now; /* from before anything was looked at */
    const char *after;   /* a hash */
    list_record_cb *cb;
    void *ctx;
    bool stopped;
    size_t prefix; /* of id: what all ids of the pool begin with */
    char id[VOLUME_ID_MAX + 1];
};

static bool is_settled(const struct walk *w, const struct stat *st)
{
    return st->st_ctim.tv_sec < w->now.tv_sec - FILE_CACHE_SETTLE;
}

/* Takes over what was said of those that are still there, in the same directory. */
static int take_names(struct shard *s, const struct file_names *names, struct error *err)
{
    struct seen *items = calloc(names->n + 1, sizeof(*items));
    size_t old = 0, bytes = names->n * sizeof(*items);

    if (items == NULL)
        return error_set(err, ERR_EXHAUSTED, "list volumes: out of memory");
    for (size_t i = 0; i < names->n; i++) {
        struct seen *v = &items[i];

        v->name = names->items[i];
        while (old < s->n && strcmp(s->items[old].name.hash, v->name.hash) < 0)
            old++;
        if (old == s->n || strcmp(s->items[old].name.hash, v->name.hash) != 0 ||
            s->items[old].name.place != v->name.place || s->items[old].said == NULL)
            continue;
        v->record = s->items[old].record;
        v->said = TAKE_PTR(s->items[old].said);
        bytes += said_bytes(v->said);
    }
    forget_shard(s);
    s->items = items;
    s->n = names->n;
    s->bytes = bytes;
    return 0;
}

static int see_names(const struct walk *w, struct shard *s, unsigned number, struct error *err)
{
    AUTO_FILE_NAMES struct file_names names = { .items = NULL };
    char path[3];
    struct stat st;
    bool there;

    (void)snprintf(path, sizeof(path), "%02x", number & 0xffu);
    there = fstatat(w->volumes, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (!there && errno == ENOENT) {
        forget_shard(s);
        return 0;
    }
    if (there && s->settled && s->dev == st.st_dev && is_of(&s->names, &st))
        return 0;
    if (there && s->dev != st.st_dev)
        forget_shard(s);
    s->settled = false;
    if (file_shard_names(w->root, number, &names, err) < 0 || take_names(s, &names, err) < 0)
        return -1;
    if (!there)
        return 0;
    s->names = stamp_of(&st);
    s->dev = st.st_dev;
    s->settled = is_settled(w, &st);
    return 0;
}

static int read_record(const struct walk *w, struct record *ret, struct error *err)
{
    AUTO_CLOSE int dir = -1;
    char place[FILE_PLACE_MAX];
    struct volume_id id;

    if (volume_id_parse(w->id, &id, err) < 0)
        return -1;
    file_place_name(&id, place);
    if (file_open_below(w->root, place, &dir, err) < 0 || file_record_at(dir, &id, ret, err) < 0)
        return file_place_error(w->pool, &id, err);
    return 0;
}

/* st: from before the record is read, or NULL. When it is replaced between the two, its summary is
 * remembered under a stamp that no file will have again. */
static bool show_read(const struct walk *w, struct shard *s, struct seen *v, const struct stat *st)
{
    struct error problem = ERROR_INIT;
    struct record_summary summary;
    struct record r;

    forget(s, v);
    if (read_record(w, &r, &problem) < 0)
        return w->cb(w->ctx, w->id, NULL, &problem);
    summary = record_summary_of(&r);
    if (st != NULL && S_ISREG(st->st_mode) && st->st_dev == s->dev && v->name.place != 0 &&
        is_settled(w, st)) {
        v->record = stamp_of(st);
        v->said = said_new(&summary);
        s->bytes += v->said != NULL ? said_bytes(v->said) : 0;
    }
    return w->cb(w->ctx, w->id, &summary, NULL);
}

static bool show(struct walk *w, struct shard *s, struct seen *v)
{
    struct record_summary summary;
    char path[3 + sizeof(v->name.hash) + sizeof(FILE_RECORD)];
    char *end = path;
    struct stat st;
    bool there;

    memcpy(w->id + w->prefix, v->name.hash, sizeof(v->name.hash));
    end = mempcpy(end, v->name.hash, 2);
    *end++ = '/';
    end = mempcpy(end, v->name.hash, sizeof(v->name.hash) - 1);
    *end++ = '/';
    memcpy(end, FILE_RECORD, sizeof(FILE_RECORD));
    there = fstatat(w->volumes, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (!there || v->said == NULL || st.st_dev != s->dev || !is_of(&v->record, &st))
        return show_read(w, s, v, there ? &st : NULL);
    summary = summary_of(v->said);
    return w->cb(w->ctx, w->id, &summary, NULL);
}

static size_t first_after(const struct shard *s, const char *hash)
{
    size_t low = 0, high = s->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strcmp(s->items[middle].name.hash, hash) > 0)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static int list_shard(struct walk *w, struct file_cache *c, unsigned number, struct error *err)
{
    const struct file_pool *priv = w->pool->priv;
    struct shard *s = &c->shards[number];
    int r;

    (void)pthread_mutex_lock(&s->lock);
    r = see_names(w, s, number, err);
    if (r == 0) {
        for (size_t i = first_after(s, w->after); i < s->n && !w->stopped; i++)
            w->stopped = !show(w, s, &s->items[i]);
    }
    keep_within(c, s, priv->cache_max);
    (void)pthread_mutex_unlock(&s->lock);
    return r;
}

/* *ret_none: there is no volume yet. */
static int start(struct walk *w, const char *after, bool *ret_none, struct error *err)
{
    struct error local = ERROR_INIT;

    (void)clock_gettime(CLOCK_REALTIME, &w->now);
    w->after = file_hash_after(w->pool, after);
    w->prefix =
        (size_t)snprintf(w->id, sizeof(w->id), "%s.%s.", w->pool->config->name, w->pool->tag);
    if (file_open_below(w->root, FILE_VOLUMES, &w->volumes, &local) == 0)
        return 0;
    *ret_none = local.code == ERR_NOT_FOUND;
    return *ret_none ? 0 : error_pass(err, &local);
}

static int list_all(struct walk *w, const char *after, struct error *err)
{
    struct file_cache *c = cache_of(w->pool->priv);
    AUTO_CLOSE int volumes = -1;
    bool none = false;
    int r = 0;

    if (c == NULL)
        return error_set(err, ERR_EXHAUSTED, "list volumes: out of memory");
    if (start(w, after, &none, err) < 0)
        return -1;
    volumes = w->volumes;
    for (unsigned i = 0; i < FILE_SHARDS && !w->stopped && !none && r == 0; i++)
        r = file_shard_is_over(i, w->after) ? 0 : list_shard(w, c, i, err);
    return r;
}

int file_list_records(struct pool *pool, const char *after, list_record_cb *cb, void *ctx,
                      struct error *err)
{
    AUTO_CLOSE int root = -1;
    struct walk w = { .pool = pool, .volumes = -1, .cb = cb, .ctx = ctx };

    if (file_root_open(pool, &root, err) < 0)
        return -1;
    w.root = root;
    if (list_all(&w, after, err) < 0)
        return error_prefix(err, "pool '%s', '%s'", pool->config->name, pool->config->path);
    return 0;
}

/* ---- for tests and figures ---- */

size_t file_cache_bytes(const struct pool *pool)
{
    struct file_pool *priv = pool->priv;
    struct file_cache *c = atomic_load(&priv->cache);

    return c == NULL ? 0 : atomic_load(&c->bytes);
}

size_t file_cache_records(const struct pool *pool)
{
    struct file_pool *priv = pool->priv;
    struct file_cache *c = atomic_load(&priv->cache);
    size_t n = 0;

    for (size_t i = 0; c != NULL && i < FILE_SHARDS; i++) {
        (void)pthread_mutex_lock(&c->shards[i].lock);
        for (size_t j = 0; j < c->shards[i].n; j++)
            n += c->shards[i].items[j].said != NULL;
        (void)pthread_mutex_unlock(&c->shards[i].lock);
    }
    return n;
}

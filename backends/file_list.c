/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "backends/file.h"

#include "common/parse.h"

#include <fcntl.h>
#include <sys/stat.h>

void file_names_release(struct file_names *names)
{
    cleanup_free(&names->items);
    *names = (struct file_names){ .items = NULL };
}

/* On a description of its own: closedir takes it. */
DIR *file_dir(int fd)
{
    AUTO_CLOSE int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy < 0 ? NULL : fdopendir(copy);

    if (d != NULL)
        (void)TAKE_FD(copy);
    return d;
}

static int names_add(struct file_names *n, const struct dirent *e, struct error *err)
{
    if (n->n == n->cap) {
        size_t cap = n->cap == 0 ? 64 : n->cap * 2;
        struct file_name *items = realloc(n->items, cap * sizeof(*items));

        if (items == NULL)
            return error_set(err, ERR_EXHAUSTED, "list volumes: out of memory");
        n->items = items;
        n->cap = cap;
    }
    struct file_name *name = &n->items[n->n++];

    memcpy(name->hash, e->d_name, sizeof(name->hash));
    name->place = e->d_type == DT_DIR || e->d_type == DT_UNKNOWN ? e->d_ino : 0;
    return 0;
}

static int names_compare(const void *a, const void *b)
{
    return strcmp(((const struct file_name *)a)->hash, ((const struct file_name *)b)->hash);
}

static int read_names(DIR *d, const char *shard, struct file_names *ret, struct error *err)
{
    const struct dirent *e;

    for (errno = 0; (e = readdir(d)) != NULL; errno = 0) {
        if (hex_lower_valid(e->d_name, 32) && memcmp(e->d_name, shard, 2) == 0 &&
            names_add(ret, e, err) < 0)
            return -1;
    }
    return errno;
}

int file_shard_names(int root, unsigned shard, struct file_names *ret, struct error *err)
{
    AUTO_FILE_NAMES struct file_names names = { .items = NULL };
    AUTO_CLOSE int fd = -1;
    AUTO_DIR DIR *d = NULL;
    struct error local = ERROR_INIT;
    char path[FILE_PLACE_MAX];
    int failed;

    (void)snprintf(path, sizeof(path), FILE_VOLUMES "/%02x", shard & 0xffu);
    if (file_open_below(root, path, &fd, &local) < 0)
        return local.code == ERR_NOT_FOUND ? 0 : error_pass(err, &local);
    d = file_dir(fd);
    failed = d == NULL ? errno : read_names(d, path + sizeof(FILE_VOLUMES), &names, err);
    if (failed != 0)
        return failed < 0 ? -1 : error_errno(err, failed, "read directory '%s'", path);
    if (names.n > 1)
        qsort(names.items, names.n, sizeof(names.items[0]), names_compare);
    *ret = names;
    names = (struct file_names){ .items = NULL };
    return 0;
}

const char *file_hash_after(const struct pool *pool, const char *after)
{
    char prefix[VOLUME_ID_MAX + 1];
    int len = snprintf(prefix, sizeof(prefix), "%s.%s.", pool->config->name, pool->tag);
    int order = strncmp(after, prefix, (size_t)len);

    if (order == 0)
        return after + len;
    return order < 0 ? "" : "~"; /* '~' sorts after all digits */
}

bool file_shard_is_over(unsigned shard, const char *hash_after)
{
    static const char digits[] = "0123456789abcdef";
    const char name[] = { digits[shard >> 4 & 0xfu], digits[shard & 0xfu], '\0' };

    return strncmp(hash_after, name, 2) > 0;
}

struct listing {
    const struct pool *pool;
    int root;
    const char *after; /* a hash */
    bool (*cb)(void *ctx, const char *id);
    void *ctx;
    bool stopped;
};

static int list_shard(struct listing *l, unsigned shard, struct error *err)
{
    AUTO_FILE_NAMES struct file_names names = { .items = NULL };
    struct volume_id id = { .pool = "" };
    char text[VOLUME_ID_MAX + 1];

    if (file_shard_names(l->root, shard, &names, err) < 0)
        return error_prefix(err, "pool '%s', '%s'", l->pool->config->name, l->pool->config->path);
    memcpy(id.pool, l->pool->config->name, sizeof(id.pool));
    memcpy(id.pool_tag, l->pool->tag, sizeof(id.pool_tag));
    for (size_t i = 0; i < names.n && !l->stopped; i++) {
        if (strcmp(names.items[i].hash, l->after) <= 0)
            continue;
        memcpy(id.hash, names.items[i].hash, sizeof(id.hash));
        volume_id_format(&id, text);
        l->stopped = !l->cb(l->ctx, text);
    }
    return 0;
}

/* All ids of a pool differ only in the hash, so the shards' order is the ids' order. */
int file_list(struct pool *pool, const char *after, bool (*cb)(void *ctx, const char *id),
              void *ctx, struct error *err)
{
    AUTO_CLOSE int root = -1;
    struct listing l = { .pool = pool, .cb = cb, .ctx = ctx };

    if (file_root_open(pool, &root, err) < 0)
        return -1;
    l.root = root;
    l.after = file_hash_after(pool, after);
    for (unsigned shard = 0; shard < FILE_SHARDS && !l.stopped; shard++) {
        if (!file_shard_is_over(shard, l.after) && list_shard(&l, shard, err) < 0)
            return -1;
    }
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "backends/file.h"

#include "backends/file_cache.h"
#include "common/b64.h"
#include "common/fault.h"
#include "common/json.h"
#include "common/parse.h"
#include "volume/geometry.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>

#define POOL_VERSION  1
#define POOL_JSON_MAX 4096
#define POOL_ID_BYTES 16

int file_pool_decode(const char *text, size_t len, char ret_id[33], struct error *err)
{
    AUTO_JSON json_t *obj = NULL;
    struct json_reader r;
    uint64_t version = 0;
    char id[33] = "", backend[16] = "";

    if (json_parse(text, len, FILE_POOL_JSON, &obj, err) < 0)
        return -1;
    r = json_reader_of(obj, FILE_POOL_JSON);
    json_get_u64(&r, "v", &version);
    json_get_string(&r, "id", id, sizeof(id));
    json_get_string(&r, "backend", backend, sizeof(backend));
    if (json_reader_done(&r, err) < 0)
        return -1;
    if (version != POOL_VERSION)
        return error_set(err, ERR_PRECONDITION,
                         "%s: version %llu; this program knows only version %d", FILE_POOL_JSON,
                         (unsigned long long)version, POOL_VERSION);
    if (!hex_lower_valid(id, sizeof(id) - 1))
        return error_set(err, ERR_DATA_LOSS, "%s: field 'id' is not 32 lower-case hex digits",
                         FILE_POOL_JSON);
    if (strcmp(backend, file_backend.name) != 0)
        return error_set(err, ERR_PRECONDITION, "%s: the pool is one of backend '%s'",
                         FILE_POOL_JSON, backend);
    return str_copy(ret_id, sizeof(id), id);
}

static int read_pool_id(int root, char ret_id[33], struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(POOL_JSON_MAX);

    if (fs_read_at(root, FILE_POOL_JSON, POOL_JSON_MAX, &text, err) < 0)
        return -1;
    return file_pool_decode(strbuf_text(&text), text.len, ret_id, err);
}

/* Whatever is wrong with the pool's place is an outage: it may be a file system that isn't mounted.
 */
static int open_root(const struct pool *pool, int *ret_fd, char ret_id[33], struct error *err)
{
    AUTO_CLOSE int fd = -1;

    if (fs_open_dir(pool->config->path, &fd, err) < 0 || read_pool_id(fd, ret_id, err) < 0) {
        if (err != NULL && err->code == ERR_EXHAUSTED) /* ours, not the pool's */
            return error_prefix(err, "pool '%s': '%s'", pool->config->name, pool->config->path);
        (void)error_recode(err, ERR_UNAVAILABLE);
        return error_prefix(err, "pool '%s' is not there (is its file system mounted?): '%s'",
                            pool->config->name, pool->config->path);
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int file_root_open(const struct pool *pool, int *ret_fd, struct error *err)
{
    const struct file_pool *priv = pool->priv;
    AUTO_CLOSE int fd = -1;
    char id[33];

    if (open_root(pool, &fd, id, err) < 0)
        return -1;
    if (strcmp(id, priv->id) != 0)
        return error_set(err, ERR_UNAVAILABLE,
                         "pool '%s': '%s' now holds another pool (id %s) than when this program "
                         "first saw it (id %s)",
                         pool->config->name, pool->config->path, id, priv->id);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static int file_pool_open(struct pool *pool, struct error *err)
{
    AUTO_CLOSE int fd = -1;
    struct file_pool *priv;
    char id[33];

    if (open_root(pool, &fd, id, err) < 0)
        return -1;
    priv = calloc(1, sizeof(*priv));
    if (priv == NULL)
        return error_set(err, ERR_EXHAUSTED, "pool '%s': out of memory", pool->config->name);
    memcpy(priv->id, id, sizeof(priv->id));
    priv->cache_max = FILE_CACHE_MAX;
    memcpy(pool->tag, id, sizeof(pool->tag) - 1);
    pool->priv = priv;
    return 0;
}

static void file_pool_close(struct pool *pool)
{
    struct file_pool *priv = pool->priv;

    if (priv != NULL)
        file_cache_free(priv->cache);
    free(priv);
    pool->priv = NULL;
}

static int file_pool_check(struct pool *pool, struct error *err)
{
    AUTO_CLOSE int fd = -1;
    struct file_space space;

    if (file_root_open(pool, &fd, err) < 0)
        return -1;
    if (file_space(fd, &space, NULL) == 0) { /* not knowing how full it is stops nobody */
        atomic_store(&pool->used, space.used);
        atomic_store(&pool->free, space.free);
    }
    return 0;
}

static int measure(struct pool *pool, bool count, struct pool_capacity *ret, struct error *err)
{
    AUTO_CLOSE int fd = -1;
    struct pool_capacity c = { .promised = 0 };
    struct file_space space;

    if (file_root_open(pool, &fd, err) < 0 || file_space(fd, &space, err) < 0)
        return -1;
    c.total = space.total;
    c.free = space.free;
    c.available = space.free;
    if (pool_is_sparse(pool->config) && file_sparse_capacity(pool, fd, count, &c, err) < 0)
        return -1;
    if (space.read_only) /* nobody is to be sent there */
        c.available = 0;
    *ret = c;
    return 0;
}

static int file_capacity(struct pool *pool, struct pool_capacity *ret, struct error *err)
{
    return measure(pool, true, ret, err);
}

static int file_look(struct pool *pool, struct pool_capacity *ret, struct error *err)
{
    return measure(pool, false, ret, err);
}

/* ---- making a pool ---- */

static bool is_harmless(const char *name)
{
    static const char *const harmless[] = { ".", "..", "lost+found", FILE_POOL_JSON ".tmp" };

    for (size_t i = 0; i < ARRAY_SIZE(harmless); i++) {
        if (strcmp(name, harmless[i]) == 0)
            return true;
    }
    return false;
}

/* A pool that lost its pool.json is full of volumes whose ids hold the old id: a new one would
 * orphan them. */
static int check_empty(int root, const char *path, struct error *err)
{
    AUTO_DIR DIR *d = file_dir(root);
    const struct dirent *e;

    if (d == NULL)
        return error_errno(err, errno, "read directory '%s'", path);
    errno = 0;
    while ((e = readdir(d)) != NULL) {
        if (!is_harmless(e->d_name))
            return error_set(err, ERR_PRECONDITION,
                             "'%s' is not empty (it holds '%.64s'): a pool starts in an empty "
                             "directory; if this was a "
                             "pool, bring back its %s instead",
                             path, e->d_name, FILE_POOL_JSON);
    }
    return errno != 0 ? error_errno(err, errno, "read directory '%s'", path) : 0;
}

static int check_no_pool(int root, const char *path, struct error *err)
{
    struct stat st;

    if (fstatat(root, FILE_POOL_JSON, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return error_set(err, ERR_EXISTS, "'%s' is a pool already (it has a %s)", path,
                         FILE_POOL_JSON);
    if (errno != ENOENT)
        return error_errno(err, errno, "look for '%s/%s'", path, FILE_POOL_JSON);
    return 0;
}

static int write_pool_json(int root, const char *id, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(POOL_JSON_MAX);
    struct fs_owner owner;
    struct stat st;

    if (fstat(root, &st) < 0)
        return error_errno(err, errno, "stat the pool's directory");
    owner = (struct fs_owner){ .uid = st.st_uid, .gid = st.st_gid };
    strbuf_addf(&text, "{\"v\":%d,\"id\":\"%s\",\"backend\":\"%s\"}\n", POOL_VERSION, id,
                file_backend.name);
    if (strbuf_check(&text, FILE_POOL_JSON, err) < 0)
        return -1;
    return fs_write_atomic_at(root, FILE_POOL_JSON, strbuf_text(&text), text.len, 0600, &owner,
                              err);
}

/* The directory is known to be empty: nothing of anybody's changes hands. */
static int give(int root, const char *path, const struct fs_owner *owner, struct error *err)
{
    if (owner == NULL)
        return 0;
    if (fchown(root, owner->uid, owner->gid) < 0)
        return error_errno(err, errno, "give '%s' to %u:%u", path, owner->uid, owner->gid);
    return fchmod(root, 0700) == 0 ? 0 : error_errno(err, errno, "close '%s' to others", path);
}

static int file_pool_init(const struct pool_config *cfg, const struct fs_owner *owner,
                          char ret_tag[9], struct error *err)
{
    unsigned char random[POOL_ID_BYTES];
    char id[2 * POOL_ID_BYTES + 1];
    AUTO_CLOSE int root = -1;

    if (fs_mkdir_p(cfg->path, 0700, err) < 0 || fs_open_dir(cfg->path, &root, err) < 0 ||
        fs_flock(root, cfg->path, err) < 0 || check_no_pool(root, cfg->path, err) < 0 ||
        check_empty(root, cfg->path, err) < 0 || give(root, cfg->path, owner, err) < 0)
        return error_prefix(err, "pool '%s'", cfg->name);
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return error_set(err, ERR_INTERNAL, "pool '%s': no random bytes", cfg->name);
    hex_encode(id, random, sizeof(random));
    FAULT_POINT("file:init:write");
    if (write_pool_json(root, id, err) < 0)
        return error_prefix(err, "pool '%s', '%s'", cfg->name, cfg->path);
    memcpy(ret_tag, id, 8);
    ret_tag[8] = '\0';
    return 0;
}

const struct backend_ops file_backend = {
    .name = "file",
    .node_local = true,
    .pool_init = file_pool_init,
    .pool_open = file_pool_open,
    .pool_close = file_pool_close,
    .pool_check = file_pool_check,
    .capacity = file_capacity,
    .look = file_look,
    .open = file_open,
    .read_record = file_read_record,
    .write_record = file_write_record,
    .allocate = file_allocate,
    .allocated = file_allocated,
    .scrub = file_scrub,
    .header_backup = file_header_backup,
    .drop_header_backup = file_drop_header_backup,
    .remove = file_remove,
    .settle_absent = file_settle_absent,
    .attach = file_attach,
    .refresh = file_refresh,
    .list = file_list,
    .list_records = file_list_records,
    .peek_record = file_peek_record,
    .settle = file_settle,
    .peek_text = file_peek_text,
    .replace_record = file_replace_record,
    .locate = file_locate,
    .each_attachment = file_each_attachment,
    .detach = file_detach,
    .each_lock_holder = file_each_lock_holder,
    .probe = file_probe,
};

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/config.h"

#include "common/fs.h"
#include "common/json.h"
#include "common/strbuf.h"

#include <errno.h>
#include <fcntl.h>

#define CONFIG_MAX  KIB(256)
#define ENTRIES_MAX 64u /* pools, and key services */

static const char *const backend_names[] = { "file" };

/* --- key services --- */

static int decode_all_kms(json_t *obj, struct config *c, struct error *err)
{
    const char *name;
    json_t *value;

    if (json_object_size(obj) > ENTRIES_MAX)
        return error_set(err, ERR_INVALID, "there are more than %u key services", ENTRIES_MAX);
    c->kms = calloc(json_object_size(obj) + 1, sizeof(*c->kms));
    if (c->kms == NULL)
        return error_memory(err);
    json_object_foreach (obj, name, value) {
        /* counted first: what it allocated is then freed with the rest */
        if (kms_config_decode(name, value, &c->kms[c->n_kms++], err) < 0)
            return -1;
    }
    return 0;
}

/* --- pools --- */

static void add_pool_kms(struct json_reader *r, const struct config *c, const json_t *item,
                         struct pool_config *p)
{
    const char *name = json_string_value(item);
    const struct kms_config *kms = name != NULL ? config_kms(c, name) : NULL;

    if (name == NULL)
        json_problem(r, "field 'kms' must hold names of key services");
    else if (kms == NULL)
        json_problem(r, "there is no kms '%.63s'", name);
    else if (pool_allows_kms(p, name))
        json_problem(r, "kms '%s' comes twice", name);
    else if (p->n_kms == CONFIG_KMS_PER_POOL)
        json_problem(r, "field 'kms' holds more than %d names", CONFIG_KMS_PER_POOL);
    else
        memcpy(p->kms[p->n_kms++], kms->name, sizeof(kms->name));
}

static void read_pool_kms(struct json_reader *r, const struct config *c, struct pool_config *p)
{
    const json_t *list = json_get_array(r, "kms");
    const json_t *item;
    size_t i;

    json_array_foreach (list, i, item)
        add_pool_kms(r, c, item, p);
    if (p->n_kms == 0)
        json_problem(r, "field 'kms' must name at least one key service");
}

static bool backend_known(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(backend_names); i++)
        if (strcmp(backend_names[i], name) == 0)
            return true;
    return false;
}

/* A sparse pool must say how far it goes; in a full one the number would promise what isn't done.
 */
static void read_allocation(struct json_reader *r, struct pool_config *p)
{
    bool given, sparse;

    if (!json_get_string_opt(r, "allocate", p->allocate, sizeof(p->allocate)))
        memcpy(p->allocate, "full", sizeof("full"));
    sparse = pool_is_sparse(p);
    if (!sparse && strcmp(p->allocate, "full") != 0)
        json_problem(r, "field 'allocate' must be full or sparse, not '%s'", p->allocate);
    given = json_get_number_opt(r, "overcommit", &p->overcommit);
    if (given && !sparse)
        json_problem(r, "field 'overcommit' is for pools with 'allocate' sparse; this one is full");
    if (given && !(p->overcommit >= 1 && p->overcommit <= CONFIG_OVERCOMMIT_MAX))
        json_problem(r, "field 'overcommit' must be a number from 1 to %d", CONFIG_OVERCOMMIT_MAX);
    if (!given && sparse)
        json_problem(r, "field 'overcommit' is missing, which a sparse pool needs (2.0: promise "
                        "twice the pool's size)");
}

static void read_escrow(struct json_reader *r, struct pool_config *p)
{
    if (json_get_string_opt(r, "escrow", p->escrow, sizeof(p->escrow)) &&
        !config_path_plain(p->escrow))
        json_problem(r, "field 'escrow' must be an absolute path of a public key, not '%.80s'",
                     p->escrow);
}

static void read_pool(struct json_reader *r, const struct config *c, struct pool_config *p)
{
    json_get_string(r, "backend", p->backend, sizeof(p->backend));
    if (!backend_known(p->backend))
        json_problem(r, "there is no backend '%s'", p->backend);
    json_get_string(r, "path", p->path, sizeof(p->path));
    if (!config_path_plain(p->path))
        json_problem(r, "path '%.80s' must be absolute, without empty, '.' or '..' parts", p->path);
    read_pool_kms(r, c, p);
    read_allocation(r, p);
    read_escrow(r, p);
}

/* Two pools in one directory would hand out the same bytes twice. */
static void check_path_alone(struct json_reader *r, const struct config *c,
                             const struct pool_config *p)
{
    for (size_t i = 0; i < c->n_pools; i++)
        if (strcmp(c->pools[i].path, p->path) == 0)
            json_problem(r, "its path is also the one of pool '%s'", c->pools[i].name);
}

static int decode_pool(const char *name, json_t *obj, struct config *c, struct error *err)
{
    struct pool_config *p = &c->pools[c->n_pools];
    struct json_reader r = json_reader_of(obj, "pool");

    if (!pool_name_valid(name) || str_copy(p->name, sizeof(p->name), name) < 0)
        return error_set(err, ERR_INVALID,
                         "the name of pool '%s' must be 1 to %d of a-z, 0-9 and '-'", name,
                         POOL_NAME_MAX);
    read_pool(&r, c, p);
    check_path_alone(&r, c, p);
    if (json_reader_done(&r, err) < 0)
        return error_set(err, ERR_INVALID, "pool '%s': %s", name, r.problem);
    c->n_pools++;
    return 0;
}

static int decode_pools(json_t *obj, struct config *c, struct error *err)
{
    const char *name;
    json_t *value;

    if (json_object_size(obj) == 0 || json_object_size(obj) > ENTRIES_MAX)
        return error_set(err, ERR_INVALID, "there must be 1 to %u pools", ENTRIES_MAX);
    c->pools = calloc(json_object_size(obj), sizeof(*c->pools));
    if (c->pools == NULL)
        return error_memory(err);
    json_object_foreach (obj, name, value)
        if (decode_pool(name, value, c, err) < 0)
            return -1;
    return 0;
}

/* --- the whole --- */

static int decode_parts(json_t *root, struct config *c, struct error *err)
{
    struct json_reader r = json_reader_of(root, "configuration");
    json_t *pools = json_get_object(&r, "pools");
    json_t *kms = json_get_object(&r, "kms");

    if (json_get_string_opt(&r, "default_tenant", c->default_tenant, sizeof(c->default_tenant)) &&
        !tenant_valid(c->default_tenant))
        json_problem(&r, "field 'default_tenant' must be 1 to 63 of a-z, 0-9 and '-'");
    if (json_reader_done(&r, err) < 0)
        return -1;
    if (decode_all_kms(kms, c, err) < 0 || decode_pools(pools, c, err) < 0)
        return error_prefix(err, "configuration");
    return 0;
}

int config_decode(const char *text, size_t len, struct config **ret, struct error *err)
{
    AUTO_JSON json_t *root = NULL;
    AUTO_CONFIG struct config *c = calloc(1, sizeof(*c));

    if (c == NULL)
        return error_memory(err);
    if (json_parse(text, len, "configuration", &root, err) < 0 || decode_parts(root, c, err) < 0)
        return -1;
    *ret = TAKE_PTR(c);
    return 0;
}

/* Symlinks are followed here: that is how Kubernetes mounts a ConfigMap's files. */
int config_load(const char *path, struct config **ret, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(CONFIG_MAX);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return error_errno(err, errno, "open configuration '%s'", path);
    if (fs_read_fd(fd, path, CONFIG_MAX, &text, err) < 0)
        return -1;
    if (config_decode(strbuf_text(&text), text.len, ret, err) < 0)
        return error_prefix(err, "'%s'", path);
    return 0;
}

void config_free(struct config *c)
{
    if (c == NULL)
        return;
    free(c->pools);
    for (size_t i = 0; i < c->n_kms; i++)
        free(c->kms[i].vault);
    free(c->kms);
    free(c);
}

const struct pool_config *config_pool(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->n_pools; i++)
        if (strcmp(c->pools[i].name, name) == 0)
            return &c->pools[i];
    return NULL;
}

const struct kms_config *config_kms(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->n_kms; i++)
        if (strcmp(c->kms[i].name, name) == 0)
            return &c->kms[i];
    return NULL;
}

bool pool_is_sparse(const struct pool_config *p)
{
    return strcmp(p->allocate, "sparse") == 0;
}

bool pool_allows_kms(const struct pool_config *p, const char *kms)
{
    for (size_t i = 0; i < p->n_kms; i++)
        if (strcmp(p->kms[i], kms) == 0)
            return true;
    return false;
}

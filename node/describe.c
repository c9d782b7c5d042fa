/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/describe.h"

#include "common/blockdev.h"
#include "common/cleanup.h"
#include "common/mountinfo.h"
#include "common/parse.h"
#include "node/op.h"
#include "node/recipients.h"
#include "volume/commitment.h"

/* gRPC clients take 4 MiB; a volume has at most the 8 KiB of a full record, and its paths. */
#define PAGE_MAX     256u
#define MOUNTED_MAX  16u
#define MAPPINGS_MIN 64u

/* A mapping of ours: what dm name has what number now. */
struct open_mapping {
    char name[DM_NAME_LEN + 1];
    dev_t dev;
};

struct describe {
    struct node *node;
    struct arena *arena;
    const struct csi_describe_request *req;
    bool clients_only;
    struct open_mapping *mappings; /* sorted by name; owned */
    size_t n_mappings, cap_mappings;
    bool no_memory;
    struct mount_table mounts;
    struct csi_description *items;
    size_t n, max;
    bool more;
    int result;
    struct error *err;
};

/* ---- what is open ---- */

static bool on_device(void *ctx, const char *name, dev_t dev)
{
    struct describe *d = ctx;
    char hash[33], tag[9];

    if (volume_dm_name_parse(name, hash, tag) < 0)
        return true;
    if (d->n_mappings == d->cap_mappings) {
        size_t cap = d->cap_mappings == 0 ? MAPPINGS_MIN : d->cap_mappings * 2;
        struct open_mapping *grown = realloc(d->mappings, cap * sizeof(*grown));

        d->no_memory = grown == NULL;
        if (d->no_memory)
            return false;
        d->mappings = grown;
        d->cap_mappings = cap;
    }
    struct open_mapping *m = &d->mappings[d->n_mappings++];
    memcpy(m->name, name, sizeof(m->name));
    m->dev = dev;
    return true;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct open_mapping *)a)->name, ((const struct open_mapping *)b)->name);
}

static int load_kernel(struct describe *d)
{
    if (dm_device_each(on_device, d, d->err) < 0 || mount_table_load(&d->mounts, d->err) < 0)
        return -1;
    if (d->no_memory)
        return error_set(d->err, ERR_EXHAUSTED, "out of memory for the list of mappings");
    if (d->n_mappings > 1)
        qsort(d->mappings, d->n_mappings, sizeof(d->mappings[0]), compare_names);
    return 0;
}

static const struct open_mapping *find_mapping(const struct describe *d, const struct volume_id *id)
{
    struct open_mapping key;

    volume_id_dm_name(id, key.name);
    return d->n_mappings == 0
               ? NULL
               : bsearch(&key, d->mappings, d->n_mappings, sizeof(key), compare_names);
}

static int where_mounted(struct describe *d, dev_t dev, struct csi_strings *ret)
{
    const char **points = arena_alloc(d->arena, MOUNTED_MAX * sizeof(*points));
    size_t n = 0;

    if (points == NULL)
        return error_set(d->err, ERR_EXHAUSTED, "out of memory for the reply");
    for (size_t i = 0; i < d->mounts.n && n < MOUNTED_MAX; i++) {
        if (mount_match(&d->mounts.items[i], dev) != MOUNT_OURS)
            continue;
        char *point = arena_strdup(d->arena, d->mounts.items[i].point);
        if (point == NULL)
            return error_set(d->err, ERR_EXHAUSTED, "out of memory for the reply");
        utf8_make_plain(point); /* gRPC's strings are UTF-8 */
        points[n++] = point;
    }
    *ret = (struct csi_strings){ .items = points, .n = n };
    return 0;
}

/* ---- one volume ---- */

static const char *copy(struct describe *d, const char *text)
{
    const char *c = arena_strdup(d->arena, text);

    d->no_memory |= c == NULL;
    return c;
}

static int read_recipients(struct describe *d, const struct record *r, struct csi_description *v)
{
    struct csi_recipient *items = arena_alloc(d->arena, sizeof(*items) * RECIPIENTS_MAX);
    struct recipient_list list;

    if (items == NULL)
        return error_set(d->err, ERR_EXHAUSTED, "out of memory for the reply");
    if (recipients_decode(r->recipients, &list, d->err) < 0)
        return -1;
    for (size_t i = 0; i < list.n; i++) {
        if (recipient_describe(d->arena, &list.items[i], &items[i], d->err) < 0)
            return -1;
    }
    v->recipients = items;
    v->n_recipients = list.n;
    return 0;
}

static int read_kernel(struct describe *d, const struct volume_id *id, struct csi_description *v)
{
    const struct open_mapping *m = find_mapping(d, id);

    v->open = m != NULL;
    return m == NULL ? 0 : where_mounted(d, m->dev, &v->mounted_at);
}

static int add(struct describe *d, const char *text, const struct volume_id *id,
               const struct record *r)
{
    struct csi_description v = {
        .volume_id = copy(d, text),
        .name = copy(d, r->name),
        .uuid = copy(d, r->uuid),
        .tenant = copy(d, r->tenant),
        .kms = copy(d, r->kms),
        .key_source = copy(d, r->key_source),
        .commitment = copy(d, record_commitment(r)),
        .state = record_state_name(r->state),
        .fs = copy(d, r->fs),
        .problem = "",
        .size = r->size,
    };

    if (d->no_memory)
        return error_set(d->err, ERR_EXHAUSTED, "out of memory for the reply");
    if (read_recipients(d, r, &v) < 0 || read_kernel(d, id, &v) < 0)
        return -1;
    d->items[d->n++] = v;
    return 0;
}

static int add_unreadable(struct describe *d, const char *text, const struct error *why)
{
    struct csi_description v = { .volume_id = copy(d, text),
                                 .name = "",
                                 .uuid = "",
                                 .tenant = "",
                                 .kms = "",
                                 .key_source = "",
                                 .commitment = "",
                                 .state = "",
                                 .fs = "",
                                 .problem = copy(d, why->msg) };

    if (d->no_memory)
        return error_set(d->err, ERR_EXHAUSTED, "out of memory for the reply");
    d->items[d->n++] = v;
    return 0;
}

/* These don't speak of one volume: the pool is away, or this process lacks memory or descriptors.
 */
static bool is_of_all(enum error_code code)
{
    return code == ERR_UNAVAILABLE || code == ERR_EXHAUSTED;
}

static bool wanted(const struct describe *d, const struct record *r)
{
    const char *prefix = d->req->name_prefix;

    return strncmp(r->name, prefix, strlen(prefix)) == 0 &&
           (!d->clients_only || record_is_client(r));
}

/* One without a record is being made: there is nothing to tell yet. */
static int refuse_or_tell(struct describe *d, const char *text, const struct error *why)
{
    if (why->code == ERR_NOT_FOUND)
        return 0;
    return is_of_all(why->code) ? error_pass(d->err, why) : add_unreadable(d, text, why);
}

static int look_at(struct describe *d, struct pool *pool, const char *text,
                   const struct volume_id *id)
{
    struct error problem = ERROR_INIT;
    struct record r;

    if (pool->ops->peek_record(pool, id, &r, &problem) < 0)
        return refuse_or_tell(d, text, &problem);
    return wanted(d, &r) ? add(d, text, id, &r) : 0;
}

/* ---- many ---- */

/* A summary has no name, so a record that may be wanted is read. */
static bool on_record(void *ctx, const char *text, const struct record_summary *summary,
                      const struct error *problem)
{
    struct describe *d = ctx;
    struct error ignored = ERROR_INIT;
    struct volume_id id;
    struct pool *pool;

    if (d->clients_only && summary != NULL && strcmp(summary->key_source, KEY_SOURCE_CLIENT) != 0)
        return true;
    if (d->n == d->max) {
        d->more = true;
        return false;
    }
    if (summary == NULL)
        d->result = refuse_or_tell(d, text, problem);
    else if (volume_id_parse(text, &id, &ignored) == 0 &&
             (pool = pool_set_find(d->node->pools, id.pool)) != NULL)
        d->result = look_at(d, pool, text, &id);
    return d->result == 0;
}

static int check_token(const char *token, struct error *err)
{
    struct error ignored = ERROR_INIT;
    struct volume_id id;

    if (token[0] == '\0' || volume_id_parse(token, &id, &ignored) == 0)
        return 0;
    return error_set(err, ERR_ABORTED,
                     "starting_token is not one that DescribeVolumes gave: start again without it");
}

static int describe_many(struct describe *d, const struct pool_set *pools)
{
    if (check_token(d->req->starting_token, d->err) < 0 ||
        pool_set_list_records(pools, d->req->starting_token, on_record, d, d->err) < 0)
        return -1;
    return d->result;
}

/* ---- one, by its name ---- */

static int describe_one(struct describe *d, const struct pool_set *pools)
{
    for (size_t i = 0; i < pools->n && d->n < d->max; i++) {
        struct pool *pool = pools->pools[i];
        char text[VOLUME_ID_MAX + 1];
        struct volume_id id;

        if (pool_ready(pool, d->err) < 0)
            return -1;
        volume_id_from_name(pool->config->name, pool->tag, d->req->name, &id);
        volume_id_format(&id, text);
        if (look_at(d, pool, text, &id) < 0)
            return -1;
    }
    return 0;
}

/* ---- the call ---- */

static int tell_tags(struct describe *d, const struct pool_set *pools, struct csi_map *ret)
{
    struct csi_pair *items = arena_alloc(d->arena, (pools->n + 1) * sizeof(*items));
    size_t n = 0;

    if (items == NULL)
        return error_set(d->err, ERR_EXHAUSTED, "out of memory for the reply");
    for (size_t i = 0; i < pools->n; i++)
        items[n++] = (struct csi_pair){ .key = pools->pools[i]->config->name,
                                        .value = pools->pools[i]->tag };
    *ret = (struct csi_map){ .items = items, .n = n };
    return 0;
}

static int run(struct describe *d, const struct pool_set *pools, struct csi_describe_reply *ret)
{
    if (d->items == NULL)
        return error_set(d->err, ERR_EXHAUSTED, "out of memory for the reply");
    if (load_kernel(d) < 0 ||
        (d->req->name[0] != '\0' ? describe_one(d, pools) : describe_many(d, pools)) < 0)
        return -1;
    struct csi_describe_reply reply = { .items = d->items,
                                        .n = d->n,
                                        .next_token = d->more ? d->items[d->n - 1].volume_id : "" };
    if (tell_tags(d, pools, &reply.pool_tags) < 0)
        return -1;
    *ret = reply;
    return 0;
}

int describe_volumes_of(struct node *node, struct csi_call *call,
                        const struct csi_describe_request *req, bool clients_only,
                        struct csi_describe_reply *ret, struct error *err)
{
    struct describe d = { .node = node,
                          .arena = call->arena,
                          .req = req,
                          .clients_only = clients_only,
                          .max = PAGE_MAX,
                          .err = err };
    struct pool *only = pool_set_find(node->pools, req->pool);
    const struct pool_set one = { .pools = &only, .n = 1 };

    if (req->pool[0] != '\0' && only == NULL)
        return error_set(err, ERR_INVALID, "there is no pool '%.64s' here", req->pool);
    if (req->max_entries > 0 && req->max_entries < PAGE_MAX)
        d.max = (size_t)req->max_entries;
    d.items = arena_alloc(call->arena, d.max * sizeof(*d.items));
    int r = run(&d, only != NULL ? &one : node->pools, ret);
    mount_table_release(&d.mounts);
    free(d.mappings);
    return r;
}

int node_describe_volumes(void *ctx, struct csi_call *call, const struct csi_describe_request *req,
                          struct csi_describe_reply *ret, struct error *err)
{
    return describe_volumes_of(ctx, call, req, false, ret, err);
}

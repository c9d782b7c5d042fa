/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl volume list|show: what the records say. Read without a lock, and nothing is changed. */
#include "common/base.h"
#include "cofferctl/verbs.h"

#include "backends/backend.h"
#include "common/json.h"

/* Neither ciphertext nor MAC: they tell a reader nothing, and a wrapped key has no business on a
 * screen. */
static json_t *record_view(const struct record *r)
{
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:I, s:b, s:b, s:b, s:s, s:I}",
        "id", r->id, "name", r->name, "state", record_state_name(r->state), "uuid", r->uuid,
        "tenant", r->tenant, "tenant_identity", record_identity(r->pod), "size",
        (json_int_t)r->size, "fs", r->fs, "kms", r->kms, "key_source", r->key_source, "key_kind",
        r->key.kind, "key_version", (json_int_t)r->key.version, "discard", r->discard, "sealed",
        r->sealed, "stale_slots", r->stale_slots, "created", r->created, "gen", (json_int_t)r->gen);
}

/* A record under another volume's id is not this volume's. */
static int read_record(struct pool *pool, const struct volume_id *id, struct record *ret,
                       struct error *err)
{
    char text[VOLUME_ID_MAX + 1];
    struct record r;
    volume_id_format(id, text);
    const struct record_claim claim = { .id = text };
    if (pool->ops->peek_record(pool, id, &r, err) < 0 || record_matches(&r, &claim, err) < 0)
        return -1;
    *ret = r;
    return 0;
}

/* ---- list ---- */

struct listing {
    struct pool *pool;
    json_t *rows;
    size_t unreadable;
    bool failed; /* out of memory */
};

static bool add_row(void *ctx, const char *text)
{
    struct listing *l = ctx;
    struct volume_id id;
    struct record r;
    struct error err = ERROR_INIT;
    json_t *row;
    if (volume_id_parse(text, &id, &err) == 0 && read_record(l->pool, &id, &r, &err) == 0) {
        row = record_view(&r);
    } else if (err.code == ERR_NOT_FOUND) {
        row = json_pack("{s:s, s:s}", "id", text, "state", "no record");
    } else {
        row = json_pack("{s:s, s:s, s:s}", "id", text, "state", "unreadable", "problem", err.msg);
        l->unreadable++;
    }
    l->failed = json_array_append_new(l->rows, row) < 0;
    return !l->failed;
}

static int list_pools(struct pool_set *set, struct listing *l, struct error *err)
{
    for (size_t i = 0; i < set->n; i++) {
        l->pool = set->pools[i];
        if (pool_ready(l->pool, err) < 0 || l->pool->ops->list(l->pool, "", add_row, l, err) < 0)
            return -1;
        if (l->failed)
            return error_memory(err);
    }
    return 0;
}

static int run_list(const struct cli *cli, struct error *err)
{
    static const struct output_column columns[] = {
        { "id", "ID", false },           { "state", "STATE", false },     { "size", "SIZE", true },
        { "fs", "FS", false },           { "tenant", "TENANT", false },   { "kms", "KMS", false },
        { "created", "CREATED", false }, { "problem", "PROBLEM", false },
    };
    AUTO_CONFIG struct config *config = NULL;
    AUTO_POOL_SET struct pool_set *set = NULL;
    AUTO_JSON json_t *rows = json_array();
    struct listing l = { .rows = rows };
    if (config_load(cli->config, &config, err) < 0 || pool_set_open(config, &set, err) < 0 ||
        list_pools(set, &l, err) < 0)
        return -1;
    /* The column of problems is the last one, and only there when there is one. */
    size_t n = ARRAY_SIZE(columns) - (l.unreadable > 0 ? 0 : 1);
    if (output_list(cli->out, cli->output, rows, columns, n, err) < 0)
        return -1;
    if (l.unreadable > 0)
        return error_set(err, ERR_DATA_LOSS, "the records of %zu volumes can't be read",
                         l.unreadable);
    return 0;
}

const struct verb volume_list = {
    .group = "volume",
    .name = "list",
    .help = "list the volumes of all pools",
    .run = run_list,
};

/* ---- show ---- */

static int run_show(const struct cli *cli, struct error *err)
{
    static const struct output_column columns[] = {
        { "id", "id", false },
        { "name", "name", false },
        { "state", "state", false },
        { "uuid", "uuid", false },
        { "tenant", "tenant", false },
        { "tenant_identity", "tenant identity", false },
        { "size", "size", true },
        { "fs", "file system", false },
        { "kms", "key service", false },
        { "key_source", "key source", false },
        { "key_kind", "key kind", false },
        { "key_version", "key version", false },
        { "discard", "discard", false },
        { "sealed", "sealed", false },
        { "stale_slots", "stale keyslots", false },
        { "created", "created", false },
        { "gen", "generation", false },
    };
    AUTO_CONFIG struct config *config = NULL;
    AUTO_POOL_SET struct pool_set *set = NULL;
    struct pool *pool = NULL;
    struct volume_id id;
    struct record r;
    if (volume_id_parse(cli->operand, &id, err) < 0 || config_load(cli->config, &config, err) < 0 ||
        pool_set_open(config, &set, err) < 0 || pool_set_for_id(set, &id, &pool, err) < 0 ||
        read_record(pool, &id, &r, err) < 0)
        return -1;
    AUTO_JSON json_t *view = record_view(&r);
    return output_object(cli->out, cli->output, view, columns, ARRAY_SIZE(columns), err);
}

const struct verb volume_show = {
    .group = "volume",
    .name = "show",
    .operand = "ID",
    .help = "show one volume's record, without its wrapped key",
    .run = run_show,
};

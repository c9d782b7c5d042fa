/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl key status: the transit keys in use, and how many records are under which version. */
#include "common/base.h"
#include "cofferctl/key_report.h"
#include "cofferctl/key_target.h"
#include "cofferctl/verbs.h"

#include <time.h>

static bool offline;

static const struct flag flags[] = {
    { "tenant", NULL, FLAG_STRING, &key_flags.tenant, "", "that tenant's key only", NULL },
    { "offline", NULL, FLAG_BOOL, &offline, "false", "only what the records say: ask no Vault",
      NULL },
    KEY_VAULT_FLAGS,
};

static int check(const struct cli *cli UNUSED, struct error *err)
{
    if (key_flags.tenant[0] != '\0' && !tenant_valid(key_flags.tenant))
        return error_set(err, ERR_INVALID, "--tenant '%.64s' is no tenant's name",
                         key_flags.tenant);
    return 0;
}

/* "v1: 3, v2: 997", for people. */
static int add_text(json_t *row, const struct ring_key *k, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(4096);

    for (size_t i = 0; i < k->n_versions; i++)
        strbuf_addf(&text, "%sv%llu: %zu", i > 0 ? ", " : "",
                    (unsigned long long)k->versions[i].version, k->versions[i].volumes);
    if (json_object_set_new(row, "volumes", json_string(strbuf_text(&text))) < 0)
        return error_memory(err);
    return 0;
}

static int add_vault(const struct key_target *t, const struct ring_key *k, json_t *row,
                     struct error *err)
{
    AUTO_JSON json_t *data = NULL;
    struct transit_key key;

    if (key_vault_read(t, k, &key, &data, err) < 0)
        return error_prefix(err, "key '%s'", k->name);
    AUTO_JSON json_t *more =
        json_pack("{s:I, s:I, s:I, s:I, s:I}", "latest", (json_int_t)key.latest, "min_decryption",
                  (json_int_t)key.min_decryption, "min_available", (json_int_t)key.min_available,
                  "old", (json_int_t)ring_key_below(k, key.latest), "latest_made",
                  (json_int_t)transit_key_made(data, key.latest));
    if (more == NULL || json_object_update(row, more) < 0)
        return error_memory(err);
    return 0;
}

static int add_rows(const struct key_target *t, const struct key_ring *ring, json_t *rows,
                    struct error *err)
{
    for (size_t i = 0; i < ring->n; i++) {
        const struct ring_key *k = &ring->keys[i];

        if (!key_is_chosen(k))
            continue;
        json_t *row = key_report_row(k);
        if (row == NULL || json_array_append_new(rows, row) < 0)
            return error_memory(err);
        if (add_text(row, k, err) < 0 || (!offline && add_vault(t, k, row, err) < 0))
            return -1;
    }
    return 0;
}

static int print(const struct cli *cli, const json_t *report, struct error *err)
{
    static const struct output_column columns[] = {
        { "key", "KEY", false },
        { "kms", "KMS", false },
        { "volumes", "VOLUMES", false },
        { "in_flight", "IN FLIGHT", false },
        { "unfinished", "UNFINISHED", false },
        { "old", "OLD", false },
        { "latest", "LATEST", false },
        { "min_decryption", "OPENS FROM", false },
        { "min_available", "KEPT FROM", false },
    };
    size_t n = ARRAY_SIZE(columns) - (offline ? 4 : 0);

    if (cli->output == OUTPUT_JSON)
        return output_object(cli->out, OUTPUT_JSON, report, NULL, 0, err);
    return output_list(cli->out, OUTPUT_TABLE, json_object_get(report, "keys"), columns, n, err);
}

static void note(const struct cli *cli, const struct key_ring *ring)
{
    const json_t *gap;
    size_t i;

    if (ring->kv + ring->file > 0)
        (void)fprintf(cli->notes,
                      "cofferctl: %zu volumes have their keys in KV, %zu under a master key in a "
                      "file: those have no versions\n",
                      ring->kv, ring->file);
    if (ring->client > 0)
        (void)fprintf(cli->notes,
                      "cofferctl: %zu volumes have keys that their users' devices made: those are "
                      "not Vault's\n",
                      ring->client);
    json_array_foreach (ring->gaps, i, gap) {
        AUTO_STRBUF struct strbuf text = STRBUF_INIT(4096);

        output_text(&text, json_string_value(json_object_get(gap, "problem")));
        (void)fprintf(cli->notes, "cofferctl: %s: %s\n",
                      json_string_value(json_object_get(gap, "what")), strbuf_text(&text));
    }
}

static int run(const struct cli *cli, struct error *err)
{
    AUTO_KEY_TARGET struct key_target *t = NULL;
    AUTO_KEY_RING struct key_ring ring = { .keys = NULL };
    int64_t made = time(NULL);
    bool whole = key_flags.tenant[0] == '\0' && vault_flags.kms.len == 0;

    if (key_ring_init(&ring, err) < 0 || key_target_open(cli, !offline, &t, err) < 0 ||
        key_ring_read(&ring, t->config, t->pools, err) < 0)
        return -1;
    AUTO_JSON json_t *report = key_report_make(&ring, t->pools, made, whole, err);
    if (report == NULL || add_rows(t, &ring, json_object_get(report, "keys"), err) < 0 ||
        print(cli, report, err) < 0)
        return -1;
    note(cli, &ring);
    if (json_array_size(ring.gaps) > 0)
        return error_set(err, ERR_DATA_LOSS, "%zu pools or records can't be read",
                         json_array_size(ring.gaps));
    return 0;
}

const struct verb key_status = {
    .group = "key",
    .name = "status",
    .help = "show the transit keys in use, their versions, and how many volumes are under which",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .check = check,
    .run = run,
};

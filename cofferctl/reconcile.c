/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl node reconcile: what is left over on this node, and what is done about it. */
#include "common/base.h"
#include "cofferctl/verbs.h"

#include "cofferctl/endpoint.h"
#include "common/json.h"
#include "csi/client.h"

#define METHOD     "coffer.v1.NodeAdmin/Reconcile"
#define TIMEOUT_MS 600000u

static struct {
    const char *admin_socket;
    bool dry_run;
} options;

static const struct flag flags[] = {
    { "dry-run", NULL, FLAG_BOOL, &options.dry_run, "false", "change nothing, only say what would",
      NULL },
    { "admin-socket", "COFFER_ADMIN_SOCKET", FLAG_STRING, &options.admin_socket,
      "/run/coffer/admin.sock", "coffer-node's admin socket", NULL },
};

/* What the wire leaves out is empty. */
static int fill(json_t *items, size_t *ret_failed, struct error *err)
{
    static const char *const keys[] = { "kind",   "what",   "volume_id", "why",
                                        "action", "result", "problem" };
    json_t *item;
    size_t i;

    json_array_foreach (items, i, item) {
        const char *result = json_string_value(json_object_get(item, "result"));

        *ret_failed += result != NULL && strcmp(result, "failed") == 0;
        for (size_t k = 0; k < ARRAY_SIZE(keys); k++) {
            if (json_object_get(item, keys[k]) == NULL &&
                json_object_set_new(item, keys[k], json_string("")) < 0)
                return error_memory(err);
        }
    }
    return 0;
}

static int print(const struct cli *cli, const json_t *items, size_t failed, struct error *err)
{
    static const struct output_column columns[] = {
        { "kind", "KIND", false },     { "what", "WHAT", false }, { "action", "ACTION", false },
        { "result", "RESULT", false }, { "why", "WHY", false },   { "problem", "PROBLEM", false },
    };

    if (cli->output == OUTPUT_TABLE && json_array_size(items) == 0) {
        (void)fprintf(cli->notes, "cofferctl: nothing is left over on this node\n");
        return 0;
    }
    return output_list(cli->out, cli->output, items, columns,
                       ARRAY_SIZE(columns) - (failed > 0 ? 0 : 1), err);
}

static int run(const struct cli *cli, struct error *err)
{
    AUTO_STRBUF struct strbuf endpoint = STRBUF_INIT(512);
    AUTO_JSON json_t *request = json_pack("{s:b}", "dry_run", (int)options.dry_run);
    AUTO_JSON json_t *reply = NULL;
    AUTO_JSON json_t *none = json_array();
    size_t failed = 0;

    if (endpoint_of(options.admin_socket, "--admin-socket", &endpoint, err) < 0 ||
        csi_client_call(strbuf_text(&endpoint), METHOD, request, TIMEOUT_MS, &reply, err) < 0)
        return -1;
    json_t *items = json_object_get(reply, "left_overs");
    if (items == NULL)
        items = none;
    if (fill(items, &failed, err) < 0 || print(cli, items, failed, err) < 0)
        return -1;
    if (json_is_true(json_object_get(reply, "truncated")))
        (void)fprintf(cli->notes, "cofferctl: there are more than are shown: run it again\n");
    if (failed > 0)
        return error_set(err, ERR_ABORTED, "%zu of %zu could not be taken away", failed,
                         json_array_size(items));
    return 0;
}

const struct verb node_reconcile = {
    .group = "node",
    .name = "reconcile",
    .help = "take away what killed calls left over on this node; never what is in use",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .run = run,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl vm list, vm explain: what coffer-scheduler tells root on its admin socket. */
#include "common/base.h"
#include "cofferctl/verbs.h"
#include "cofferctl/vm_api.h"

#include "common/parse.h"

#define ID_LEN 32u

static struct {
    const char *socket;
} options;

static const struct flag flags[] = {
    { "admin-socket", "COFFER_SCHEDULER_ADMIN_SOCKET", FLAG_STRING, &options.socket,
      "/run/coffer/scheduler/admin.sock", "coffer-scheduler's admin socket", NULL },
};

static int list(const struct cli *cli, struct error *err)
{
    static const struct output_column columns[] = {
        { "id", "id", false },           { "status", "status", false },
        { "vm", "vm", false },           { "node", "node", false },
        { "devices", "devices", false }, { "volumeId", "volume", false },
        { "reason", "reason", false },
    };
    AUTO_VM_API struct vm_api *a = NULL;
    AUTO_JSON json_t *answer = NULL;
    long status = 0;

    if (vm_api_open_admin(cli, options.socket, &a, err) < 0 ||
        vm_api_get(a, "/admin/clouds", &status, &answer, err) < 0)
        return -1;
    const json_t *clouds = json_object_get(answer, "clouds");
    if (!json_is_array(clouds))
        return error_set(err, ERR_UNAVAILABLE, "the scheduler's answer has no list of clouds");
    return output_list(cli->out, cli->output, clouds, columns, ARRAY_SIZE(columns), err);
}

static int show_lines(const struct cli *cli, const char *id, const char *text, struct error *err)
{
    static const struct output_column columns[] = { { "lines", "placement", false } };
    AUTO_JSON json_t *lines = json_array();
    AUTO_JSON json_t *o = json_pack("{s:s, s:O}", "id", id, "lines", lines);

    for (size_t len; *text != '\0'; text += len + (text[len] == '\n')) {
        len = strcspn(text, "\n");
        if (json_array_append_new(lines, json_stringn(text, len)) < 0)
            return error_set(err, ERR_UNAVAILABLE, "the scheduler's answer isn't UTF-8 text");
    }
    return output_object(cli->out, cli->output, o, columns, ARRAY_SIZE(columns), err);
}

static int explain(const struct cli *cli, struct error *err)
{
    AUTO_VM_API struct vm_api *a = NULL;
    AUTO_FREE char *text = NULL;
    char path[128];

    if (!hex_lower_valid(cli->operand, ID_LEN))
        return error_set(err, ERR_INVALID, "a cloud's id is 32 lower-case hex digits, not '%.64s'",
                         cli->operand);
    (void)snprintf(path, sizeof(path), "/admin/clouds/%s/explain", cli->operand);
    if (vm_api_open_admin(cli, options.socket, &a, err) < 0 || vm_api_text(a, path, &text, err) < 0)
        return -1;
    return show_lines(cli, cli->operand, text, err);
}

const struct verb vm_list = {
    .group = "vm",
    .name = "list",
    .help = "all clouds (root, on coffer-scheduler's host)",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .run = list,
};

const struct verb vm_explain = {
    .group = "vm",
    .name = "explain",
    .operand = "ID",
    .help = "on which node a cloud is or would be placed, and why (root, likewise)",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .run = explain,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl recipient list: for whom the volume's storage key is wrapped, as the key proves. */
#include "common/base.h"
#include "cofferctl/host_secrets.h"
#include "cofferctl/recipient.h"
#include "cofferctl/verbs.h"

#include "common/json.h"

static struct {
    const char *admin_socket;
} options;

static const struct flag flags[] = {
    HOST_FLAG_SECRETS,
    { "admin-socket", "COFFER_ADMIN_SOCKET", FLAG_STRING, &options.admin_socket,
      "/run/coffer/admin.sock", "coffer-node's admin socket", NULL },
};

static int run(const struct cli *cli, struct error *err)
{
    AUTO_JSON json_t *request = json_pack("{s:s}", "volume_id", cli->operand);
    AUTO_JSON json_t *reply = NULL;
    AUTO_JSON json_t *list = json_array();

    if (request != NULL && host_secrets_add(request, err) < 0)
        return -1;
    if (recipient_call(options.admin_socket, "ListRecipients", cli->operand, request, &reply, err) <
        0)
        return -1;
    const json_t *messages = json_object_get(reply, "recipients");
    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *view = NULL;

        if (recipient_view(json_array_get(messages, i), &view, err) < 0)
            return -1;
        if (json_array_append_new(list, view) < 0)
            return error_memory(err);
    }
    return output_list(cli->out, cli->output, list, recipient_columns, recipient_n_columns, err);
}

const struct verb recipient_list = {
    .group = "recipient",
    .name = "list",
    .operand = "ID",
    .help = "for whom the volume's storage key is wrapped beside its key service",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .run = run,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl recipient remove: a new storage key for the volume, wrapped for all others. */
#include "common/base.h"
#include "cofferctl/host_secrets.h"
#include "cofferctl/recipient.h"
#include "cofferctl/verbs.h"

#include "common/json.h"

static struct {
    const char *reason, *admin_socket;
} options;

static const struct flag flags[] = {
    { "reason", NULL, FLAG_STRING, &options.reason, "", "why, for the audit line", NULL },
    HOST_FLAG_SECRETS,
    HOST_FLAG_NEW_SECRETS,
    { "admin-socket", "COFFER_ADMIN_SOCKET", FLAG_STRING, &options.admin_socket,
      "/run/coffer/admin.sock", "coffer-node's admin socket", NULL },
};

/* What a removal can't take back. */
static void tell_limits(const struct cli *cli)
{
    (void)fprintf(cli->notes,
                  "cofferctl: volume '%s' has a new storage key, wrapped for those who stay; what "
                  "%.16s... has opens nothing here any more\n",
                  cli->operand, cli->operand2);
    (void)fprintf(cli->notes,
                  "cofferctl: who was removed and kept a copy of the volume's header from before "
                  "can still open the volume with both, also data written later: destroy such "
                  "copies, and backups of the old record\n");
}

static int run(const struct cli *cli, struct error *err)
{
    static const struct output_column columns[] = {
        { "id", "id", false },
        { "fingerprint", "removed", false },
        { "resumed", "resumed", false },
        { "key_version", "key version", false },
    };
    AUTO_JSON json_t *reply = NULL;
    AUTO_JSON json_t *request = json_pack("{s:s, s:s, s:s}", "volume_id", cli->operand,
                                          "fingerprint", cli->operand2, "reason", options.reason);

    if (request != NULL &&
        (host_secrets_add(request, err) < 0 || host_new_secrets_add(request, err) < 0))
        return -1;
    if (recipient_call(options.admin_socket, "RemoveRecipient", cli->operand, request, &reply,
                       err) < 0)
        return -1;
    const json_t *version = json_object_get(reply, "key_version");
    AUTO_JSON json_t *view =
        json_pack("{s:s, s:s, s:b, s:I}", "id", cli->operand, "fingerprint", cli->operand2,
                  "resumed", (int)json_is_true(json_object_get(reply, "resumed")), "key_version",
                  json_is_integer(version) ? json_integer_value(version) : (json_int_t)0);
    if (cli->output == OUTPUT_TABLE)
        tell_limits(cli);
    return output_object(cli->out, cli->output, view, columns, ARRAY_SIZE(columns), err);
}

const struct verb recipient_remove = {
    .group = "recipient",
    .name = "remove",
    .operand = "ID",
    .operand2 = "FINGERPRINT",
    .help = "give the volume a new storage key, wrapped for all recipients but this one",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .run = run,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl volume rotate-key: a new storage key for one volume, made and used by its node. No key
 * comes near this process; a session of a user's device, which is as good as one, passes through.
 */
#include "common/base.h"
#include "cofferctl/verbs.h"

#include "cofferctl/endpoint.h"
#include "cofferctl/host_secrets.h"
#include "common/json.h"
#include "csi/client.h"
#include "volume/id.h"

#define METHOD     "coffer.v1.NodeAdmin/RotateKey"
#define TIMEOUT_MS 600000u

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

/* What the wire leaves out is false or 0. */
static json_t *view_of(const char *id, json_t *reply)
{
    const json_t *version = json_object_get(reply, "key_version");

    return json_pack("{s:s, s:b, s:I}", "id", id, "resumed",
                     (int)json_is_true(json_object_get(reply, "resumed")), "key_version",
                     json_is_integer(version) ? json_integer_value(version) : (json_int_t)0);
}

static int print(const struct cli *cli, const json_t *view, struct error *err)
{
    static const struct output_column columns[] = {
        { "id", "id", false },
        { "resumed", "resumed", false },
        { "key_version", "key version", false },
    };

    if (cli->output != OUTPUT_TABLE)
        return output_object(cli->out, cli->output, view, columns, ARRAY_SIZE(columns), err);
    (void)fprintf(cli->notes,
                  json_is_true(json_object_get(view, "resumed"))
                      ? "cofferctl: an interrupted rotation of volume '%s' was finished: the "
                        "keyslots of the key before are gone\n"
                      : "cofferctl: volume '%s' has a new storage key, and the keyslots of the one "
                        "before are gone\n",
                  cli->operand);
    (void)fprintf(
        cli->notes,
        "cofferctl: copies of its record and header from before still open it, together: destroy "
        "them, and make new ones\n");
    return 0;
}

static int run(const struct cli *cli, struct error *err)
{
    AUTO_STRBUF struct strbuf endpoint = STRBUF_INIT(512);
    AUTO_JSON json_t *reply = NULL;
    AUTO_JSON json_t *request =
        json_pack("{s:s, s:s}", "volume_id", cli->operand, "reason", options.reason);
    struct volume_id id;

    if (request == NULL)
        return error_set(err, ERR_INVALID, "--reason is not UTF-8 text");
    if (volume_id_parse(cli->operand, &id, err) < 0 || host_secrets_add(request, err) < 0 ||
        host_new_secrets_add(request, err) < 0 ||
        endpoint_of(options.admin_socket, "--admin-socket", &endpoint, err) < 0 ||
        csi_client_call(strbuf_text(&endpoint), METHOD, request, TIMEOUT_MS, &reply, err) < 0)
        return -1;
    AUTO_JSON json_t *view = view_of(cli->operand, reply);
    return print(cli, view, err);
}

const struct verb volume_rotate_key = {
    .group = "volume",
    .name = "rotate-key",
    .operand = "ID",
    .help = "give the volume a new storage key, also while it is in use; its data is not rewritten",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .run = run,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl recipient add: the volume's storage key, wrapped by its node for one more public key.
 */
#include "common/base.h"
#include "cofferctl/host_secrets.h"
#include "cofferctl/recipient.h"
#include "cofferctl/verbs.h"

#include "common/b64.h"
#include "common/cleanup.h"
#include "common/fs.h"
#include "common/json.h"
#include "recipient/wrap.h"
#include "common/strbuf.h"

#include <fcntl.h>

#define FORM_MAX 1024u /* base64: csi/validate.h */

static struct {
    const char *key, *algorithm, *label, *wrapped, *reason, *admin_socket;
} options;

static const struct flag flags[] = {
    { "key", NULL, FLAG_STRING, &options.key, "", "file with the public key, PEM or DER", NULL },
    { "algorithm", NULL, FLAG_STRING, &options.algorithm, "",
      "RSA-OAEP-256 (the default for RSA), RSA-OAEP-512, HPKE-Base-X25519-SHA256-A256GCM", NULL },
    { "label", NULL, FLAG_STRING, &options.label, "", "a word for it that people know", NULL },
    { "wrapped", NULL, FLAG_STRING, &options.wrapped, "",
      "file with what the user's device wrapped for it, base64; with keySource client only", NULL },
    HOST_FLAG_SECRETS,
    { "reason", NULL, FLAG_STRING, &options.reason, "", "why, for the audit line", NULL },
    { "admin-socket", "COFFER_ADMIN_SOCKET", FLAG_STRING, &options.admin_socket,
      "/run/coffer/admin.sock", "coffer-node's admin socket", NULL },
};

static int check(const struct cli *cli UNUSED, struct error *err)
{
    if (options.key[0] == '\0')
        return error_set(err, ERR_INVALID, "--key is needed: the file with the public key");
    return 0;
}

static const char *algorithm_for(const struct public_key *k)
{
    return options.algorithm[0] != '\0' ? options.algorithm : wrap_default(k)->name;
}

/* Without the line's end. */
static int add_wrapped(json_t *request, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(FORM_MAX);

    if (options.wrapped[0] == '\0')
        return 0;
    if (fs_read_at(AT_FDCWD, options.wrapped, FORM_MAX, &text, err) < 0)
        return error_prefix(err, "--wrapped");
    const char *all = strbuf_text(&text);
    const size_t len = strcspn(all, "\r\n");
    if (len + strspn(all + len, "\r\n") != text.len || len == 0 ||
        json_object_set_new(request, "wrapped", json_stringn(all, len)) < 0)
        return error_set(err, ERR_INVALID, "--wrapped: '%.200s' is no line of base64",
                         options.wrapped);
    return 0;
}

static int ask(const struct cli *cli, const struct public_key *k, json_t **ret, struct error *err)
{
    unsigned char der[PUBLIC_KEY_DER_MAX];
    char text[B64_LEN(PUBLIC_KEY_DER_MAX) + 1];
    size_t len = 0;

    if (public_key_der(k, der, &len, err) < 0)
        return -1;
    b64_encode(text, der, len);
    AUTO_JSON json_t *request =
        json_pack("{s:s, s:s, s:s, s:s, s:s}", "volume_id", cli->operand, "public_key", text,
                  "algorithm", algorithm_for(k), "label", options.label, "reason", options.reason);
    if (request != NULL && (add_wrapped(request, err) < 0 || host_secrets_add(request, err) < 0))
        return -1;
    return recipient_call(options.admin_socket, "AddRecipient", cli->operand, request, ret, err);
}

static int run(const struct cli *cli, struct error *err)
{
    AUTO_PUBLIC_KEY struct public_key *k = NULL;
    AUTO_JSON json_t *reply = NULL;
    AUTO_JSON json_t *view = NULL;

    if (recipient_key_load(options.key, &k, err) < 0 || ask(cli, k, &reply, err) < 0 ||
        recipient_view(json_object_get(reply, "recipient"), &view, err) < 0)
        return -1;
    if (json_is_true(json_object_get(reply, "already")))
        (void)fprintf(cli->notes, "cofferctl: it was a recipient of volume '%s' already\n",
                      cli->operand);
    return output_object(cli->out, cli->output, view, recipient_columns, recipient_n_columns, err);
}

const struct verb recipient_add = {
    .group = "recipient",
    .name = "add",
    .operand = "ID",
    .help = "wrap the volume's storage key for one more public key; nothing else changes",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .check = check,
    .run = run,
};

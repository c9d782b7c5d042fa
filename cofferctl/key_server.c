/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl key server: what users' devices encrypt their sessions for, as coffer-keyd says. */
#include "common/base.h"
#include "cofferctl/verbs.h"

#include "cofferctl/endpoint.h"
#include "common/b64.h"
#include "common/deadline.h"
#include "common/json.h"
#include "keyd/client.h"
#include "volume/config.h"

#include <unistd.h>

#define KEYD_SOCKET       "/run/coffer/keyd/keyd.sock" /* as the units have it */
#define KEYD_SOCKET_ALONE "/run/coffer/keyd.sock"
#define LIMIT_MS          60000u

static struct {
    const char *kms, *keyd_socket;
} options;

static const struct flag flags[] = {
    { "kms", NULL, FLAG_STRING, &options.kms, "",
      "key service; default: the configuration's one with a server_key", NULL },
    { "keyd-socket", "COFFER_KEYD_SOCKET", FLAG_STRING, &options.keyd_socket, "",
      "coffer-keyd's socket; default: " KEYD_SOCKET ", else " KEYD_SOCKET_ALONE, NULL },
};

static bool has_one(const struct kms_config *kms)
{
    return kms->vault != NULL && kms->vault->server_key[0] != '\0';
}

static int choose(const struct config *c, const char **ret, struct error *err)
{
    const char *found = NULL;

    for (size_t i = 0; i < c->n_kms; i++) {
        if (!has_one(&c->kms[i]))
            continue;
        if (found != NULL)
            return error_set(err, ERR_INVALID,
                             "several key services have a server_key: name one with --kms");
        found = c->kms[i].name;
    }
    if (found == NULL)
        return error_set(err, ERR_PRECONDITION,
                         "no key service of the configuration has a server_key");
    *ret = found;
    return 0;
}

static const char *socket_path(void)
{
    if (options.keyd_socket[0] != '\0')
        return endpoint_path(options.keyd_socket);
    return access(KEYD_SOCKET, F_OK) < 0 && access(KEYD_SOCKET_ALONE, F_OK) == 0 ? KEYD_SOCKET_ALONE
                                                                                 : KEYD_SOCKET;
}

static int print(const struct cli *cli, const char *kms, const struct keyd_server_key *key,
                 struct error *err)
{
    static const struct output_column columns[] = {
        { "kms", "key service", false },
        { "key_id", "key id", false },
        { "hash", "hash", false },
        { "public_key", "public key", false },
    };
    char text[B64_LEN(KEYD_PUBLIC_KEY_MAX) + 1];

    b64_encode(text, key->public_key, key->public_key_len);
    AUTO_JSON json_t *o = json_pack("{s:s, s:s, s:s, s:s}", "kms", kms, "key_id", key->key_id,
                                    "hash", key->hash, "public_key", text);
    return output_object(cli->out, cli->output, o, columns, ARRAY_SIZE(columns), err);
}

static int run(const struct cli *cli, struct error *err)
{
    AUTO_CONFIG struct config *config = NULL;
    const char *kms = options.kms;
    struct keyd_server_key key;

    if (config_load(cli->config, &config, err) < 0 ||
        (kms[0] == '\0' && choose(config, &kms, err) < 0) ||
        keyd_server_key(socket_path(), kms, deadline_in(LIMIT_MS), &key, err) < 0)
        return -1;
    return print(cli, kms, &key, err);
}

const struct verb key_server = {
    .group = "key",
    .name = "server",
    .help = "show the public key that users' devices encrypt their sessions for",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .run = run,
};

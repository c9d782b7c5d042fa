/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl vm new-device: a key pair in a file; all that a device has to keep. */
#include "common/base.h"
#include "cofferctl/verbs.h"
#include "cofferctl/vm_api.h"

static const struct flag flags[] = { VM_FLAG_KEY };

static int show(const struct cli *cli, const struct device_key *k, struct error *err)
{
    static const struct output_column columns[] = {
        { "name", "name", false },
        { "fingerprint", "fingerprint", false },
        { "publicKey", "public key", false },
    };
    AUTO_JSON json_t *o = json_pack("{s:s, s:s, s:s}", "name", device_key_name(k), "fingerprint",
                                    device_key_fingerprint(k), "publicKey", device_key_public(k));

    return output_object(cli->out, cli->output, o, columns, ARRAY_SIZE(columns), err);
}

static int run(const struct cli *cli, struct error *err)
{
    AUTO_DEVICE_KEY struct device_key *k = NULL;
    struct error why = ERROR_INIT;

    if (vm_prepare(err) < 0)
        return -1;
    if (device_key_create(vm_options.key, &why) < 0) {
        if (why.code != ERR_EXISTS)
            return error_pass(err, &why);
        (void)fprintf(cli->notes, "cofferctl: the key file was there already\n");
    }
    return device_key_load(vm_options.key, &k, err) < 0 ? -1 : show(cli, k, err);
}

const struct verb vm_new_device = {
    .group = "vm",
    .name = "new-device",
    .help = "make this device's key file, and show its public half; one that is there stays",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .check = vm_check_key,
    .run = run,
};

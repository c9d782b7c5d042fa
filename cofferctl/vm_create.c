/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl vm create: the device makes a storage key, the cluster a volume with it and a VM. */
#include "common/base.h"
#include "cofferctl/verbs.h"
#include "cofferctl/vm_cloud.h"

static struct {
    const char *label;
    bool spread;
} options;

static const struct flag flags[] = {
    VM_FLAGS,
    VM_SESSION_FLAGS,
    { "label", NULL, FLAG_STRING, &options.label, "", "a word for this device that people know",
      NULL },
    { "spread", NULL, FLAG_BOOL, &options.spread, "false",
      "on the emptiest node, not the fullest one that has room", NULL },
};

static json_t *body_of(const struct vm_api *a, const struct device_volume *v)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s*, s:o*}", "publicKey",
                     device_key_public(vm_api_key(a)), "algorithm", DEVICE_ALGORITHM, "wrappedKey",
                     v->wrapped, "uuid", v->uuid, "commitment", v->commitment, "label",
                     options.label[0] != '\0' ? options.label : NULL, "spread",
                     options.spread ? json_true() : NULL);
}

/* Where the volume's id follows from the device's name, the session comes with the request; where
 * it doesn't, the volume is made first, and opened then. */
static int add_session(const struct vm_api *a, const json_t *found, const struct device_volume *v,
                       const struct secret *key, json_t *body, struct error *err)
{
    char session[DEVICE_WRAPPED_SIZE];
    struct device_lending to;

    if (vm_text(found, "volumeId")[0] == '\0')
        return 0;
    if (vm_lending(found, v->uuid, &to, err) < 0 ||
        device_lend(vm_api_key(a), key, &to, session, err) < 0)
        return -1;
    if (json_object_set_new(body, "volumeId", json_string(to.volume_id)) < 0 ||
        json_object_set_new(body, "session", json_string(session)) < 0 ||
        json_object_set_new(body, "serverKey", json_string(to.server.key_id)) < 0)
        return error_memory(err);
    return 0;
}

static int deploy(struct vm_api *a, const json_t *found, struct error *err)
{
    AUTO_SECRET struct secret *key = NULL;
    struct device_volume v;

    if (device_volume_new(vm_api_key(a), &v, &key, err) < 0)
        return -1;
    AUTO_JSON json_t *body = body_of(a, &v);
    if (body == NULL)
        return error_set(err, ERR_INVALID, "--label must be UTF-8 text");
    if (add_session(a, found, &v, key, body, err) < 0)
        return -1;
    return vm_api_call(a, "POST", "/deploy", body, NULL, err);
}

static bool has_volume(const json_t *found)
{
    return vm_text(found, "wrappedKey")[0] != '\0';
}

/* Anybody who has this device's public key can put it on the list of a cloud of his, and reads all
 * that is in there. */
static int check_own(const struct vm_api *a, const json_t *found, struct error *err)
{
    const char *id = vm_text(found, "id");

    if (strncmp(device_key_name(vm_api_key(a)), id, strlen(id)) == 0)
        return 0;
    return error_set(err, ERR_EXISTS,
                     "this device is on the list of cloud %.32s, which another device made: "
                     "if that one is yours, vm mount opens it",
                     id);
}

static int run(const struct cli *cli, struct error *err)
{
    AUTO_VM_API struct vm_api *a = NULL;
    AUTO_JSON json_t *before = NULL;
    AUTO_JSON json_t *made = NULL;
    AUTO_JSON json_t *opened = NULL;

    if (vm_api_open(cli, &a, err) < 0 || vm_settled(a, &before, err) < 0 ||
        check_own(a, before, err) < 0)
        return -1;
    if (vm_is(before, "attached"))
        return vm_show(cli, before, err);
    if (json_object_get(before, "serverKey") == NULL && vm_judge(before, err) < 0)
        return -1; /* it is open, and its VM ended: vm unlock starts it again */
    if (!has_volume(before) && deploy(a, before, err) < 0)
        return -1;
    if (vm_settled(a, &made, err) < 0)
        return -1;
    if (vm_is(made, "attached"))
        return vm_show(cli, made, err);
    if (!has_volume(before) && vm_judge(made, err) < 0)
        return -1;
    if (!has_volume(made))
        return error_set(err, ERR_ABORTED, "it is %.40s now: something else changed it meanwhile",
                         vm_text(made, "status"));
    if (vm_open(a, "mount", made, &opened, err) < 0)
        return -1;
    return vm_show(cli, opened, err);
}

const struct verb vm_create = {
    .group = "vm",
    .name = "create",
    .help = "make the device's encrypted volume and its VM, or open them; waits until it answers",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .check = vm_check,
    .run = run,
};

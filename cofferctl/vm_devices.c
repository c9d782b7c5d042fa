/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl vm list-devices, add-device, remove-device: who can open the cloud's volume. */
#include "common/base.h"
#include "cofferctl/verbs.h"
#include "cofferctl/vm_cloud.h"

#include "cofferctl/confirm.h"
#include "common/fs.h"
#include "common/strbuf.h"

#define DEVICES_MAX 16u /* of a record: docs/recipients.md */

static struct {
    const char *label;
} options;

static const struct flag list_flags[] = { VM_FLAGS };
static const struct flag add_flags[] = {
    VM_FLAGS,
    VM_SESSION_FLAGS,
    { "label", NULL, FLAG_STRING, &options.label, "", "a word for that device that people know",
      NULL },
};
static const struct flag remove_flags[] = { VM_FLAGS, VM_SESSION_FLAGS, VM_FLAG_YES };

static int show(const struct cli *cli, const json_t *answer, struct error *err)
{
    static const struct output_column columns[] = {
        { "name", "name", false },
        { "label", "label", false },
        { "algorithm", "algorithm", false },
    };
    const json_t *list = json_object_get(answer, "devices");

    if (!json_is_array(list))
        return error_set(err, ERR_UNAVAILABLE, "the server's answer has no list of devices");
    return output_list(cli->out, cli->output, list, columns, ARRAY_SIZE(columns), err);
}

static int list_devices(struct vm_api *a, json_t **ret, struct error *err)
{
    AUTO_JSON json_t *body = json_object();

    return vm_api_call(a, "POST", "/recipients/list", body, ret, err);
}

/* ---- list ---- */

static int list(const struct cli *cli, struct error *err)
{
    AUTO_VM_API struct vm_api *a = NULL;
    AUTO_JSON json_t *answer = NULL;

    if (vm_api_open(cli, &a, err) < 0 || list_devices(a, &answer, err) < 0)
        return -1;
    return show(cli, answer, err);
}

/* ---- add ---- */

static int read_public(const char *path, struct device_public *ret, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(PUBLIC_KEY_MAX);

    if (fs_read_path(path, PUBLIC_KEY_MAX, &text, err) < 0)
        return -1;
    if (device_public_parse(strbuf_text(&text), text.len, ret, err) < 0)
        return error_prefix(err, "'%.200s'", path);
    return 0;
}

static int add_body(const struct vm_api *a, const json_t *own, const struct device_public *p,
                    json_t **ret, struct error *err)
{
    AUTO_SECRET struct secret *key = NULL;
    char wrapped[DEVICE_WRAPPED_SIZE];

    if (vm_storage_key(a, own, &key, err) < 0 ||
        device_wrap(DEVICE_ALGORITHM, p->text, key, wrapped, err) < 0)
        return -1;
    AUTO_JSON json_t *body =
        json_pack("{s:s, s:s, s:s, s:s*}", "publicKey", p->text, "algorithm", DEVICE_ALGORITHM,
                  "wrappedKey", wrapped, "label", options.label[0] != '\0' ? options.label : NULL);
    if (body == NULL)
        return error_set(err, ERR_INVALID, "--label must be UTF-8 text");
    if (vm_add_session(a, own, body, err) < 0)
        return -1;
    *ret = TAKE_PTR(body);
    return 0;
}

static bool listed(const json_t *answer, const char *name)
{
    const json_t *device;
    size_t i;

    json_array_foreach (json_object_get(answer, "devices"), i, device) {
        if (strcmp(vm_text(device, "name"), name) == 0)
            return true;
    }
    return false;
}

static int add(const struct cli *cli, struct error *err)
{
    AUTO_VM_API struct vm_api *a = NULL;
    AUTO_JSON json_t *own = NULL;
    AUTO_JSON json_t *body = NULL;
    AUTO_JSON json_t *answer = NULL;
    struct device_public p;

    if (vm_api_open(cli, &a, err) < 0 || read_public(cli->operand, &p, err) < 0 ||
        list_devices(a, &own, err) < 0)
        return -1;
    if (listed(own, p.name)) {
        (void)fprintf(cli->notes, "cofferctl: it is on the list already\n");
        return show(cli, own, err);
    }
    if (add_body(a, own, &p, &body, err) < 0 ||
        vm_api_call(a, "POST", "/recipients", body, &answer, err) < 0)
        return -1;
    return show(cli, answer, err);
}

/* ---- remove ---- */

struct staying { /* those who stay: texts of the answer's */
    struct device_stays items[DEVICES_MAX];
    size_t n;
    bool found, own; /* the one that goes; this device */
};

static int sort_out(const struct vm_api *a, const json_t *answer, const char *gone,
                    struct staying *ret, struct error *err)
{
    const json_t *device;
    size_t i;

    json_array_foreach (json_object_get(answer, "devices"), i, device) {
        const char *name = vm_text(device, "name"), *key = vm_text(device, "publicKey");
        struct device_public p;

        if (device_public_parse(key, strlen(key), &p, err) < 0 || strcmp(p.name, name) != 0)
            return error_set(err, ERR_UNAVAILABLE,
                             "the server's list has a device whose name isn't its key's");
        ret->found = ret->found || strcmp(name, gone) == 0;
        ret->own = ret->own || strcmp(name, device_key_name(vm_api_key(a))) == 0;
        if (strcmp(name, gone) == 0)
            continue;
        if (ret->n == DEVICES_MAX)
            return error_set(err, ERR_UNAVAILABLE, "the server's list has more than %u devices",
                             DEVICES_MAX + 1);
        ret->items[ret->n++] = (struct device_stays){ key, vm_text(device, "algorithm") };
    }
    if (!ret->found)
        return error_set(err, ERR_NOT_FOUND, "there is no device '%.64s' (see vm list-devices)",
                         gone);
    return ret->own ? 0 : error_set(err, ERR_PERMISSION, "this device isn't on the server's list");
}

/* The list comes from the server, and who is on it gets the new key: people look at it. */
static int confirm_removal(const json_t *answer, const char *gone, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(KIB(8));
    const json_t *device;
    size_t i;

    if (vm_options.yes)
        return 0;
    strbuf_adds(&text, "A new key will be made for the devices that stay:\n");
    json_array_foreach (json_object_get(answer, "devices"), i, device) {
        if (strcmp(vm_text(device, "name"), gone) == 0)
            continue;
        strbuf_addf(&text, "  %s  ", vm_text(device, "name"));
        output_text(&text, vm_text(device, "label"));
        strbuf_adds(&text, "\n");
    }
    strbuf_adds(&text, "Type yes to go on: ");
    if (strbuf_check(&text, "the list of devices", err) < 0)
        return -1;
    return confirm(strbuf_text(&text), "yes", "no device was removed", err);
}

static json_t *forms_of(const struct device_new_key *n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n->n_forms; i++)
        (void)json_array_append_new(list,
                                    json_pack("{s:s, s:s}", "fingerprint", n->forms[i].fingerprint,
                                              "wrapped", n->forms[i].wrapped));
    return list;
}

static int remove_body(const struct vm_api *a, const json_t *answer, const struct staying *stay,
                       const char *gone, json_t **ret, struct error *err)
{
    AUTO_DEVICE_NEW_KEY struct device_new_key n = { .forms = NULL };
    struct device_lending to;

    if (vm_lending(answer, vm_text(answer, "uuid"), &to, err) < 0 ||
        device_new_key_make(vm_api_key(a), &to, stay->items, stay->n, &n, err) < 0)
        return -1;
    AUTO_JSON json_t *body = json_pack("{s:s, s:s, s:s, s:s, s:o}", "name", gone, "newSession",
                                       n.session, "newServerKey", to.server.key_id, "newCommitment",
                                       n.commitment, "newRecipients", forms_of(&n));
    if (body == NULL)
        return error_memory(err);
    if (vm_add_session(a, answer, body, err) < 0)
        return -1;
    *ret = TAKE_PTR(body);
    return 0;
}

static int remove_it(const struct cli *cli, struct error *err)
{
    AUTO_VM_API struct vm_api *a = NULL;
    AUTO_JSON json_t *own = NULL;
    AUTO_JSON json_t *body = NULL;
    AUTO_JSON json_t *answer = NULL;
    struct staying stay = { .n = 0 };

    if (vm_api_open(cli, &a, err) < 0)
        return -1;
    if (strcmp(cli->operand, device_key_name(vm_api_key(a))) == 0)
        return error_set(err, ERR_PRECONDITION,
                         "a device can't remove itself: it makes the new key, so another one must");
    if (list_devices(a, &own, err) < 0 || sort_out(a, own, cli->operand, &stay, err) < 0 ||
        confirm_removal(own, cli->operand, err) < 0 ||
        remove_body(a, own, &stay, cli->operand, &body, err) < 0 ||
        vm_api_call(a, "POST", "/recipients/remove", body, &answer, err) < 0)
        return -1;
    return show(cli, answer, err);
}

const struct verb vm_list_devices = {
    .group = "vm",
    .name = "list-devices",
    .help = "the devices that can open the device's cloud",
    .flags = list_flags,
    .n_flags = ARRAY_SIZE(list_flags),
    .check = vm_check,
    .run = list,
};

const struct verb vm_add_device = {
    .group = "vm",
    .name = "add-device",
    .operand = "FILE",
    .help = "let one more device open it: FILE has its public key, as vm new-device or the page "
            "shows it",
    .flags = add_flags,
    .n_flags = ARRAY_SIZE(add_flags),
    .check = vm_check,
    .run = add,
};

const struct verb vm_remove_device = {
    .group = "vm",
    .name = "remove-device",
    .operand = "NAME",
    .help = "make a new key that this device can't open; no data is rewritten",
    .flags = remove_flags,
    .n_flags = ARRAY_SIZE(remove_flags),
    .check = vm_check,
    .run = remove_it,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl vm find, vm lock, vm delete: what needs no storage key. */
#include "common/base.h"
#include "cofferctl/verbs.h"
#include "cofferctl/vm_cloud.h"

#include "cofferctl/confirm.h"

static const struct flag flags[] = { VM_FLAGS };
static const struct flag delete_flags[] = { VM_FLAGS, VM_FLAG_YES };

/* Asks for it, waits for its end, which must be that status. */
static int bring(struct vm_api *a, const char *method, const char *path, const char *status,
                 json_t **ret, struct error *err)
{
    AUTO_JSON json_t *body = strcmp(method, "POST") == 0 ? json_object() : NULL;
    AUTO_JSON json_t *after = NULL;

    if (vm_api_call(a, method, path, body, NULL, err) < 0 || vm_settled(a, &after, err) < 0 ||
        vm_judge(after, err) < 0)
        return -1;
    if (!vm_is(after, status))
        return error_set(err, ERR_ABORTED, "it is %.40s now: something else changed it meanwhile",
                         vm_text(after, "status"));
    *ret = TAKE_PTR(after);
    return 0;
}

static int no_cloud(struct error *err)
{
    return error_set(err, ERR_NOT_FOUND, "this device has no cloud");
}

static int lock(const struct cli *cli, struct error *err)
{
    AUTO_VM_API struct vm_api *a = NULL;
    AUTO_JSON json_t *found = NULL;
    AUTO_JSON json_t *after = NULL;

    if (vm_api_open(cli, &a, err) < 0 || vm_settled(a, &found, err) < 0)
        return -1;
    if (vm_is(found, "nonexistent"))
        return no_cloud(err);
    if (vm_is(found, "detached"))
        return vm_show(cli, found, err);
    return bring(a, "POST", "/lock", "detached", &after, err) < 0 ? -1 : vm_show(cli, after, err);
}

static int confirm_deletion(const json_t *found, struct error *err)
{
    char question[256];

    if (vm_options.yes)
        return 0;
    (void)snprintf(question, sizeof(question),
                   "This deletes cloud %.32s and all data in it, for ever.\nType its id to go on: ",
                   vm_text(found, "id"));
    return confirm(question, vm_text(found, "id"), "nothing was deleted", err);
}

static int delete_it(const struct cli *cli, struct error *err)
{
    AUTO_VM_API struct vm_api *a = NULL;
    AUTO_JSON json_t *found = NULL;
    AUTO_JSON json_t *after = NULL;

    if (vm_api_open(cli, &a, err) < 0 || vm_settled(a, &found, err) < 0)
        return -1;
    if (vm_is(found, "nonexistent"))
        return vm_show(cli, found, err);
    if (confirm_deletion(found, err) < 0 || bring(a, "DELETE", "", "nonexistent", &after, err) < 0)
        return -1;
    return vm_show(cli, after, err);
}

static int find(const struct cli *cli, struct error *err)
{
    AUTO_VM_API struct vm_api *a = NULL;
    AUTO_JSON json_t *found = NULL;

    if (vm_api_open(cli, &a, err) < 0 || vm_find(a, &found, err) < 0)
        return -1;
    return vm_show(cli, found, err);
}

const struct verb vm_lock = {
    .group = "vm",
    .name = "lock",
    .help = "stop the VM and close the volume; its key is forgotten",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .check = vm_check,
    .run = lock,
};

const struct verb vm_delete = {
    .group = "vm",
    .name = "delete",
    .help = "delete the VM, its volume and all data in it",
    .flags = delete_flags,
    .n_flags = ARRAY_SIZE(delete_flags),
    .check = vm_check,
    .run = delete_it,
};

const struct verb vm_find_verb = {
    .group = "vm",
    .name = "find",
    .help = "show what there is of the device's cloud, and where it answers",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .check = vm_check,
    .run = find,
};

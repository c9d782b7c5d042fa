/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl vm mount, vm unlock: the device lends its storage key, the VM runs on what it opens. */
#include "common/base.h"
#include "cofferctl/verbs.h"
#include "cofferctl/vm_cloud.h"

static const struct flag flags[] = { VM_FLAGS, VM_SESSION_FLAGS };

static int open_by(const struct cli *cli, const char *verb, struct error *err)
{
    AUTO_VM_API struct vm_api *a = NULL;
    AUTO_JSON json_t *found = NULL;
    AUTO_JSON json_t *opened = NULL;

    if (vm_api_open(cli, &a, err) < 0 || vm_settled(a, &found, err) < 0)
        return -1;
    if (vm_is(found, "attached"))
        return vm_show(cli, found, err);
    if (vm_is(found, "nonexistent"))
        return error_set(err, ERR_NOT_FOUND,
                         "this device has no cloud: make one with vm create, or have a device that "
                         "has one add this one");
    return vm_open(a, verb, found, &opened, err) < 0 ? -1 : vm_show(cli, opened, err);
}

static int mount_it(const struct cli *cli, struct error *err)
{
    return open_by(cli, "mount", err);
}

static int unlock(const struct cli *cli, struct error *err)
{
    return open_by(cli, "unlock", err);
}

const struct verb vm_mount = {
    .group = "vm",
    .name = "mount",
    .help = "open the volume where it isn't open, and start the VM; waits until it answers",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .check = vm_check,
    .run = mount_it,
};

const struct verb vm_unlock = {
    .group = "vm",
    .name = "unlock",
    .help = "open the volume after a lock, and start the VM; waits until it answers",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .check = vm_check,
    .run = unlock,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl volume delete: for ever, so it asks. What cofferctl keeps of the volume goes last: a
 * call that was killed can be repeated by the same name. An id that cofferctl keeps nothing of
 * (what it kept was lost) can be deleted too.
 */
#include "common/base.h"
#include "cofferctl/verbs.h"

#include "cofferctl/confirm.h"
#include "cofferctl/host_mount.h"
#include "common/fault.h"

#include <errno.h>
#include <unistd.h>

static struct {
    bool yes;
} options;

static const struct flag flags[] = {
    { "yes", NULL, FLAG_BOOL, &options.yes, "false", "don't ask on the terminal", NULL },
    HOST_FLAG_TIMEOUT,
    HOST_FLAG_CONTROLLER,
    HOST_FLAG_STATE_DIR,
};

static int ask(const char *what, struct error *err)
{
    char question[512];
    (void)snprintf(question, sizeof(question),
                   "This deletes volume %s and all data in it, for ever.\n"
                   "Type %s to go on: ",
                   what, what);
    return options.yes ? 0 : confirm(question, what, "nothing was deleted", err);
}

static int call(const struct host *h, const char *id, struct error *err)
{
    return host_call(h, HOST_CONTROLLER, "csi.v1.Controller/DeleteVolume",
                     json_pack("{s:s}", "volume_id", id), NULL, err);
}

static int refuse_mounted(const struct host *h, const struct host_volume *v, struct error *err)
{
    char path[HOST_PATH_MAX];
    if (host_mounted_at(h, v, path, err) < 0)
        return -1;
    if (path[0] == '\0')
        return 0;
    return error_set(err, ERR_PRECONDITION,
                     "volume '%s' is mounted at '%s': unmount it first (cofferctl volume unmount "
                     "%s)",
                     v->name, path, v->name);
}

static int forget(const struct host *h, const struct host_volume *v, struct error *err)
{
    char staging[HOST_PATH_MAX];
    if (host_store_staging(&h->store, v->id, staging, err) < 0)
        return -1;
    if (rmdir(staging) < 0 && errno != ENOENT)
        return error_errno(err, errno, "remove '%s'", staging);
    if (host_store_remove(&h->store, v->name, err) < 0)
        return -1;
    FAULT_POINT("cofferctl:delete:forgotten");
    return 0;
}

static int delete_kept(const struct host *h, const char *name, struct error *err)
{
    AUTO_HOST_LOCK struct host_lock lock = HOST_LOCK_INIT;
    AUTO_HOST_VOLUME struct host_volume v = HOST_VOLUME_INIT;
    if (host_lock_take(&h->store, name, h->deadline, &lock, err) < 0 ||
        host_store_load(&h->store, name, &v, err) < 0 || refuse_mounted(h, &v, err) < 0 ||
        ask(name, err) < 0 || call(h, v.id, err) < 0)
        return -1;
    FAULT_POINT("cofferctl:delete:called");
    return forget(h, &v, err);
}

static int run(const struct cli *cli, struct error *err)
{
    AUTO_HOST struct host h = HOST_INIT;
    char name[HOST_VOLUME_NAME_MAX + 1];
    struct error local = ERROR_INIT;
    if (host_open(cli, &h, err) < 0)
        return -1;
    if (host_store_find(&h.store, cli->operand, name, &local) == 0)
        return delete_kept(&h, name, err);
    if (local.code != ERR_NOT_FOUND) { /* not a name, or a file that can't be read */
        *err = local;
        return -1;
    }
    return ask(cli->operand, err) < 0 ? -1 : call(&h, cli->operand, err);
}

const struct verb volume_delete = {
    .group = "volume",
    .name = "delete",
    .operand = "VOLUME",
    .help = "delete a volume (by name or id) and all data in it, for ever",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .check = NULL,
    .run = run,
};

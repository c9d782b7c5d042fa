/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl volume unmount: at one place, or (by name or id) everywhere. With the last place the
 * volume is closed: its mapping is gone when this returns.
 */
#include "common/base.h"
#include "cofferctl/verbs.h"

#include "cofferctl/host_mount.h"
#include "cofferctl/mount_point.h"

static const struct flag flags[] = {
    HOST_FLAG_TIMEOUT,
    HOST_FLAG_NODE,
    HOST_FLAG_STATE_DIR,
};

/* *ret_path: "" = everywhere. */
static int find(const struct host *h, const char *text, char ret_name[HOST_VOLUME_NAME_MAX + 1],
                char ret_path[HOST_PATH_MAX], struct error *err)
{
    ret_path[0] = '\0';
    if (strchr(text, '/') == NULL)
        return host_store_find(&h->store, text, ret_name, err);
    if (mount_point_path(text, ret_path, HOST_PATH_MAX, err) < 0)
        return -1;
    return host_store_find_path(&h->store, ret_path, ret_name, err);
}

static int run(const struct cli *cli, struct error *err)
{
    AUTO_HOST struct host h = HOST_INIT;
    AUTO_HOST_LOCK struct host_lock lock = HOST_LOCK_INIT;
    AUTO_HOST_VOLUME struct host_volume v = HOST_VOLUME_INIT;
    char name[HOST_VOLUME_NAME_MAX + 1], path[HOST_PATH_MAX];
    if (host_open(cli, &h, err) < 0 || find(&h, cli->operand, name, path, err) < 0 ||
        host_lock_take(&h.store, name, h.deadline, &lock, err) < 0 ||
        host_store_load(&h.store, name, &v, err) < 0)
        return -1;
    return host_unmount(&h, &v, path[0] != '\0' ? path : NULL, err);
}

const struct verb volume_unmount = {
    .group = "volume",
    .name = "unmount",
    .operand = "VOLUME|PATH",
    .help =
        "unmount a volume of this host at PATH, or everywhere; with the last place it is closed",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .run = run,
};

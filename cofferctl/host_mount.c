/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/host_mount.h"

#include "cofferctl/mount_point.h"
#include "common/fault.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* CSI's NodeUnpublish removes the mount point; a host's administrator made it, and wants it back.
 */
static int restore_place(const struct host_target *t, struct error *err)
{
    if (!t->kept)
        return 0;
    if (mkdir(t->path, t->mode & 0700) < 0)
        return errno == EEXIST ? 0 : error_errno(err, errno, "make '%s' again", t->path);
    if (chown(t->path, t->uid, t->gid) < 0 || chmod(t->path, t->mode) < 0)
        return error_errno(err, errno, "give '%s' its owner and mode again", t->path);
    return 0;
}

static int unpublish(const struct host *h, const struct host_volume *v, const struct host_target *t,
                     struct error *err)
{
    if (host_call(h, HOST_NODE, "csi.v1.Node/NodeUnpublishVolume",
                  json_pack("{s:s, s:s}", "volume_id", v->id, "target_path", t->path), NULL,
                  err) < 0)
        return -1;
    FAULT_POINT("cofferctl:unmount:unpublished");
    if (restore_place(t, err) < 0)
        return -1;
    FAULT_POINT("cofferctl:unmount:restored");
    return 0;
}

static int unstage(const struct host *h, const struct host_volume *v, struct error *err)
{
    char staging[HOST_PATH_MAX];
    if (host_store_staging(&h->store, v->id, staging, err) < 0 ||
        host_call(h, HOST_NODE, "csi.v1.Node/NodeUnstageVolume",
                  json_pack("{s:s, s:s}", "volume_id", v->id, "staging_target_path", staging), NULL,
                  err) < 0)
        return -1;
    FAULT_POINT("cofferctl:unmount:unstaged");
    if (rmdir(staging) < 0 && errno != ENOENT)
        return error_errno(err, errno, "remove '%s'", staging);
    return 0;
}

int host_unmount(const struct host *h, struct host_volume *v, const char *path, struct error *err)
{
    size_t left = 0;
    for (size_t i = 0; i < v->n_targets; i++) {
        if (path != NULL && strcmp(v->targets[i].path, path) != 0)
            left++;
        else if (unpublish(h, v, &v->targets[i], err) < 0)
            return -1;
    }
    if (left == 0 && unstage(h, v, err) < 0)
        return -1;
    if (left == v->n_targets)
        return 0;
    for (size_t i = v->n_targets; i-- > 0;) {
        if (path == NULL || strcmp(v->targets[i].path, path) == 0)
            host_volume_remove_target(v, i);
    }
    if (host_store_save(&h->store, v, err) < 0)
        return -1;
    FAULT_POINT("cofferctl:unmount:forgotten");
    return 0;
}

int host_mounted_at(const struct host *h, const struct host_volume *v, char ret[HOST_PATH_MAX],
                    struct error *err)
{
    char staging[HOST_PATH_MAX];
    bool mounted = false;
    for (size_t i = 0; i < v->n_targets; i++) {
        if (mount_point_at(v->targets[i].path, &mounted, err) < 0)
            return -1;
        if (mounted)
            return str_copy(ret, HOST_PATH_MAX, v->targets[i].path);
    }
    if (host_store_staging(&h->store, v->id, staging, err) < 0 ||
        mount_point_at(staging, &mounted, err) < 0)
        return -1;
    return str_copy(ret, HOST_PATH_MAX, mounted ? staging : "");
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/host_mount.h"

#include "cofferctl/mount_point.h"
#include "common/cleanup.h"
#include "common/fault.h"
#include "common/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Who owns the folder above may put something else there at any time, a link to any file among it:
 * so what is given away is what was made, by its descriptor, and no link is followed. */
static int make_again(const struct host_target *t, int *ret_fd, struct error *err)
{
    const char *name = strrchr(t->path, '/') + 1;
    AUTO_FREE char *folder = strndup(t->path, (size_t)(name - t->path));
    AUTO_CLOSE int above = -1;
    struct stat st;

    if (folder == NULL)
        return error_memory(err);
    if (fs_open_path(folder, &above, err) < 0)
        return -1;
    if (mkdirat(above, name, 0700) < 0)
        return errno == EEXIST ? 0 : error_errno(err, errno, "make '%s' again", t->path);
    FAULT_POINT("cofferctl:unmount:made");
    AUTO_CLOSE int fd = openat(above, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_errno(err, errno, "open '%s', which was just made", t->path);
    if (st.st_uid != geteuid())
        return error_set(err, ERR_ABORTED, "'%s' was replaced while it was made", t->path);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* CSI's NodeUnpublish removes the mount point; a host's administrator made it, and wants it back.
 */
static int restore_place(const struct host_target *t, struct error *err)
{
    AUTO_CLOSE int fd = -1;

    if (!t->kept)
        return 0;
    if (make_again(t, &fd, err) < 0)
        return -1;
    if (fd >= 0 && (fchown(fd, t->uid, t->gid) < 0 || fchmod(fd, t->mode) < 0))
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

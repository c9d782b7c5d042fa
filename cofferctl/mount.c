/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl volume mount: stage the volume below the state folder, then publish it at PATH. The
 * place is kept before anything is mounted, so that after a kill or a reboot "unmount" knows what
 * to take away and "mount" goes on. A call that fails for good takes back what it did.
 */
#include "common/base.h"
#include "cofferctl/verbs.h"

#include "cofferctl/host_mount.h"
#include "cofferctl/host_secrets.h"
#include "cofferctl/mount_point.h"
#include "common/cleanup.h"
#include "common/fault.h"
#include "common/json.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

static struct {
    bool read_only;
} options;

static const struct flag flags[] = {
    { "read-only", NULL, FLAG_BOOL, &options.read_only, "false", "nobody may write at PATH", NULL },
    HOST_FLAG_SECRETS,
    HOST_FLAG_TIMEOUT,
    HOST_FLAG_NODE,
    HOST_FLAG_STATE_DIR,
};

/* ---- the place ---- */

static int check_empty(const char *path, struct error *err)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (d == NULL)
        return error_errno(err, errno, "read the directory '%s'", path);
    fd = -1;
    int r = 0;
    for (const struct dirent *e; r == 0 && (errno = 0, e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            r = error_set(err, ERR_PRECONDITION, "'%s' is not empty", path);
    }
    if (r == 0 && errno != 0)
        r = error_errno(err, errno, "read the directory '%s'", path);
    (void)closedir(d);
    return r;
}

/* A mount point that is there stays there, as with mount(8); one that isn't is made, and goes. */
static int look_at_place(const struct host_volume *v, struct host_target *t, struct error *err)
{
    bool mounted = false;
    struct stat st;
    if (mount_point_at(t->path, &mounted, err) < 0)
        return -1;
    if (mounted)
        return error_set(err, ERR_EXISTS, "something is mounted at '%s'", t->path);
    if (lstat(t->path, &st) < 0)
        return errno == ENOENT ? 0 : error_errno(err, errno, "look at '%s'", t->path);
    if (strcmp(v->fs, "none") == 0)
        return error_set(err, ERR_EXISTS,
                         "'%s' exists; a raw block volume makes its file, and removes it", t->path);
    if (!S_ISDIR(st.st_mode))
        return error_set(err, ERR_EXISTS, "'%s' is not a directory", t->path);
    t->kept = true;
    t->mode = st.st_mode & 07777;
    t->uid = st.st_uid;
    t->gid = st.st_gid;
    return check_empty(t->path, err);
}

static int check_others(const struct host *h, const struct host_volume *v, const char *path,
                        struct error *err)
{
    char name[HOST_VOLUME_NAME_MAX + 1];
    struct error local = ERROR_INIT;
    if (host_store_find_path(&h->store, path, name, &local) < 0) {
        if (local.code == ERR_NOT_FOUND)
            return 0;
        *err = local;
        return -1;
    }
    if (strcmp(name, v->name) == 0)
        return 0;
    return error_set(err, ERR_EXISTS,
                     "'%s' is volume '%s''s place: unmount that there first (cofferctl volume "
                     "unmount %s)",
                     path, name, name);
}

static int add_target(const struct host *h, struct host_volume *v, const char *path,
                      struct error *err)
{
    struct host_target t = { .read_only = options.read_only };
    if (str_copy(t.path, sizeof(t.path), path) < 0)
        return error_set(err, ERR_INVALID, "the path '%.200s' is too long", path);
    if (v->n_targets == HOST_TARGETS_MAX)
        return error_set(err, ERR_EXHAUSTED, "volume '%s' is mounted at %d places already", v->name,
                         HOST_TARGETS_MAX);
    if (check_others(h, v, path, err) < 0 || look_at_place(v, &t, err) < 0)
        return -1;
    v->targets[v->n_targets++] = t;
    return host_store_save(&h->store, v, err);
}

/* The target in v: known from before, or added by this call. */
static int choose_target(const struct host *h, struct host_volume *v, const char *path,
                         size_t *ret_index, bool *ret_added, struct error *err)
{
    size_t i = host_volume_find_target(v, path);
    bool mounted = false;
    *ret_added = i == v->n_targets;
    if (i == v->n_targets) {
        if (add_target(h, v, path, err) < 0)
            return -1;
    } else if (v->targets[i].read_only != options.read_only) {
        if (mount_point_at(path, &mounted, err) < 0)
            return -1;
        if (mounted)
            return error_set(err, ERR_EXISTS, "volume '%s' is mounted %s at '%s'", v->name,
                             options.read_only ? "read-write" : "read-only", path);
        v->targets[i].read_only = options.read_only;
        if (host_store_save(&h->store, v, err) < 0)
            return -1;
    }
    *ret_index = i;
    return 0;
}

/* ---- the calls ---- */

static int stage(const struct host *h, const struct host_volume *v, const char *staging,
                 struct error *err)
{
    AUTO_JSON json_t *secrets = NULL;
    if (host_secrets_read(&secrets, err) < 0)
        return -1;
    if (mkdir(staging, 0700) < 0 && errno != EEXIST)
        return error_errno(err, errno, "make '%s'", staging);
    return host_call(h, HOST_NODE, "csi.v1.Node/NodeStageVolume",
                     json_pack("{s:s, s:s, s:O, s:o, s:O}", "volume_id", v->id,
                               "staging_target_path", staging, "volume_context", v->context,
                               "volume_capability", host_volume_capability(v), "secrets", secrets),
                     NULL, err);
}

static int publish(const struct host *h, const struct host_volume *v, const char *staging,
                   const struct host_target *t, struct error *err)
{
    return host_call(h, HOST_NODE, "csi.v1.Node/NodePublishVolume",
                     json_pack("{s:s, s:s, s:s, s:O, s:o, s:b}", "volume_id", v->id,
                               "staging_target_path", staging, "target_path", t->path,
                               "volume_context", v->context, "volume_capability",
                               host_volume_capability(v), "readonly", t->read_only),
                     NULL, err);
}

static int stage_and_publish(const struct host *h, const struct host_volume *v, size_t index,
                             struct error *err)
{
    char staging[HOST_PATH_MAX];
    if (host_store_staging(&h->store, v->id, staging, err) < 0)
        return -1;
    FAULT_POINT("cofferctl:mount:kept");
    if (stage(h, v, staging, err) < 0)
        return -1;
    FAULT_POINT("cofferctl:mount:staged");
    if (publish(h, v, staging, &v->targets[index], err) < 0)
        return -1;
    FAULT_POINT("cofferctl:mount:published");
    return 0;
}

/* After these codes nobody knows whether it was done: everything stays for a repetition. */
static bool caller_repeats(enum error_code code)
{
    return code == ERR_ABORTED || code == ERR_UNAVAILABLE || code == ERR_DEADLINE ||
           code == ERR_CANCELED;
}

static int take_back(const struct host *h, struct host_volume *v, const char *path,
                     struct error *err)
{
    struct error local = ERROR_INIT;
    if (caller_repeats(err->code))
        return -1;
    if (host_unmount(h, v, path, &local) < 0)
        (void)fprintf(h->cli->notes, "cofferctl: taking it back failed too: %s\n", local.msg);
    return -1;
}

static int run(const struct cli *cli, struct error *err)
{
    AUTO_HOST struct host h = HOST_INIT;
    AUTO_HOST_LOCK struct host_lock lock = HOST_LOCK_INIT;
    AUTO_HOST_VOLUME struct host_volume v = HOST_VOLUME_INIT;
    char name[HOST_VOLUME_NAME_MAX + 1], path[HOST_PATH_MAX];
    size_t index = 0;
    bool added = false;
    if (host_open(cli, &h, err) < 0 ||
        mount_point_path(cli->operand2, path, sizeof(path), err) < 0 ||
        host_store_find(&h.store, cli->operand, name, err) < 0 ||
        host_lock_take(&h.store, name, h.deadline, &lock, err) < 0 ||
        host_store_load(&h.store, name, &v, err) < 0 ||
        choose_target(&h, &v, path, &index, &added, err) < 0)
        return -1;
    if (stage_and_publish(&h, &v, index, err) == 0)
        return 0;
    /* what an earlier call mounted may be in use */
    return added ? take_back(&h, &v, path, err) : -1;
}

const struct verb volume_mount = {
    .group = "volume",
    .name = "mount",
    .operand = "VOLUME",
    .operand2 = "PATH",
    .help = "open a volume of this host (by name or id) and mount it at PATH",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .run = run,
};

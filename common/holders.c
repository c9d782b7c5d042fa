/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/holders.h"

#include "common/cleanup.h"
#include "common/error.h"
#include "common/fs.h"
#include "common/mountinfo.h"
#include "common/parse.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define NAMESPACES_MAX 1024 /* mount namespaces that are told apart; beyond, one is read again */

struct search {
    const char *root; /* /proc and /sys are below it */
    dev_t device;
    bool (*cb)(void *ctx, const struct holder *h);
    void *ctx;
    ino_t seen[NAMESPACES_MAX];
    size_t n_seen;
    uint64_t *mount_ids; /* of the device's mounts in every namespace: no two have the same */
    size_t n_mount_ids;
    bool mounted; /* there is one, whether its id is among them or not */
};

static void process_name(const char *root, const char *pid, char *ret, size_t size)
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/proc/%s/comm", root, pid);
    /* a process may call itself nothing */
    if (fs_read_line(path, ret, size, NULL) < 0 || ret[0] == '\0')
        (void)snprintf(ret, size, "?");
}

static struct holder holder_of(enum holder_kind kind, const char *root, const char *pid,
                               const char *path)
{
    struct holder h = { .kind = kind };

    (void)snprintf(h.pid, sizeof(h.pid), "%.15s", pid);
    (void)snprintf(h.path, sizeof(h.path), "%.255s", path);
    process_name(root, h.pid, h.name, sizeof(h.name));
    utf8_make_plain(h.path); /* it may be cut within a character, and both are any bytes */
    utf8_make_plain(h.name);
    return h;
}

/* ---- processes ---- */

static bool on_our_mount(const struct search *s, uint64_t mount_id)
{
    for (size_t i = 0; i < s->n_mount_ids; i++)
        if (s->mount_ids[i] == mount_id)
            return true;
    return false;
}

/* By the number of its device, and by its mount: a file on btrfs has a number that is nobody's.
 * Not stat(2): of a file on a network or FUSE file system it waits for that server, for ever when
 * that is dead. What is on a device the kernel knows without asking anybody. */
static bool on_device(const struct search *s, const char *path)
{
    struct statx st;

    if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_MNT_ID,
              &st) < 0)
        return false;
    return makedev(st.stx_dev_major, st.stx_dev_minor) == s->device ||
           (S_ISBLK(st.stx_mode) && makedev(st.stx_rdev_major, st.stx_rdev_minor) == s->device) ||
           ((st.stx_mask & STATX_MNT_ID) != 0 && on_our_mount(s, st.stx_mnt_id));
}

static bool look_at_link(const struct search *s, const char *pid, const char *link,
                         struct holder *ret)
{
    char path[PATH_MAX], target[256];

    (void)snprintf(path, sizeof(path), "%s/proc/%.16s/%.280s", s->root, pid, link);
    if (!on_device(s, path))
        return false;
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    target[n < 0 ? 0 : n] = '\0';
    *ret = holder_of(HOLDER_PROCESS, s->root, pid, target);
    return true;
}

static bool look_at_files(const struct search *s, const char *pid, struct holder *ret)
{
    char path[PATH_MAX], link[300];
    const struct dirent *e;
    bool found = false;

    (void)snprintf(path, sizeof(path), "%s/proc/%.16s/fd", s->root, pid);
    DIR *dir = opendir(path);
    if (dir == NULL)
        return false;
    while (!found && (e = readdir(dir)) != NULL) {
        (void)snprintf(link, sizeof(link), "fd/%s", e->d_name);
        found = e->d_name[0] != '.' && look_at_link(s, pid, link, ret);
    }
    (void)closedir(dir);
    return found;
}

/* false: the caller wants no more. */
static bool each_use(struct search *s, const char *pid)
{
    static const char *const links[] = { "cwd", "root", "exe" };
    struct holder h;

    bool found = look_at_files(s, pid, &h);
    for (size_t i = 0; i < ARRAY_SIZE(links) && !found; i++)
        found = look_at_link(s, pid, links[i], &h);
    return !found || s->cb(s->ctx, &h);
}

/* ---- mounts ---- */

/* Every process of a namespace shows the same mounts, but for one that was chrooted: it shows those
 * below its root alone, and is seldom a namespace's first. 0: no namespace can be told. */
static ino_t namespace_of(const struct search *s, const char *pid)
{
    char path[PATH_MAX];
    struct stat st;

    (void)snprintf(path, sizeof(path), "%s/proc/%.16s/ns/mnt", s->root, pid);
    return stat(path, &st) < 0 ? 0 : st.st_ino;
}

static bool seen_before(const struct search *s, ino_t ns)
{
    for (size_t i = 0; i < s->n_seen; i++) {
        if (s->seen[i] == ns)
            return true;
    }
    return false;
}

/* The mounts of the process's namespace, once for each namespace: a node has many processes and a
 * long list, and of a list as long as it may be (a tenant can make one in a namespace of his own)
 * every reading costs. Empty when it was read before, or can't be read; another process may show
 * the same one when this has ended. */
static void read_mounts(struct search *s, const char *pid, struct mount_table *ret)
{
    char path[PATH_MAX];
    struct error local = ERROR_INIT;
    ino_t ns = namespace_of(s, pid);

    *ret = (struct mount_table){ .items = NULL, .n = 0 };
    if (ns != 0 && seen_before(s, ns))
        return;
    (void)snprintf(path, sizeof(path), "%s/proc/%.16s/mountinfo", s->root, pid);
    if (mount_table_read(path, ret, &local) < 0 && local.sys_errno != 0)
        return;
    if (ns != 0 && s->n_seen < NAMESPACES_MAX)
        s->seen[s->n_seen++] = ns;
}

/* Without memory it is left out: then the mount is shown in place of who has a file there. */
static void add_mount_id(struct search *s, uint64_t id)
{
    uint64_t *ids = reallocarray(s->mount_ids, s->n_mount_ids + 1, sizeof(*ids));

    if (ids == NULL)
        return;
    s->mount_ids = ids;
    s->mount_ids[s->n_mount_ids++] = id;
}

static bool each_mount_id(struct search *s, const char *pid)
{
    AUTO_MOUNT_TABLE struct mount_table t = { .items = NULL, .n = 0 };

    read_mounts(s, pid, &t);
    for (size_t i = 0; i < t.n; i++) {
        if (!mount_lies_on(&t.items[i], s->device))
            continue;
        s->mounted = true;
        add_mount_id(s, t.items[i].id);
    }
    return true;
}

static bool each_mount(struct search *s, const char *pid)
{
    AUTO_MOUNT_TABLE struct mount_table t = { .items = NULL, .n = 0 };

    read_mounts(s, pid, &t);
    for (size_t i = 0; i < t.n; i++) {
        if (!mount_lies_on(&t.items[i], s->device))
            continue;
        const struct holder h = holder_of(HOLDER_MOUNT, s->root, pid, t.items[i].point);
        if (!s->cb(s->ctx, &h))
            return false;
    }
    return true;
}

/* ---- all ---- */

static bool each_stacked_device(struct search *s)
{
    char path[PATH_MAX];
    const struct dirent *e;
    bool more = true;

    (void)snprintf(path, sizeof(path), "%s/sys/dev/block/%u:%u/holders", s->root, major(s->device),
                   minor(s->device));
    DIR *dir = opendir(path);
    if (dir == NULL)
        return true;
    while (more && (e = readdir(dir)) != NULL) {
        struct holder h = { .kind = HOLDER_DEVICE };

        if (e->d_name[0] == '.')
            continue;
        (void)snprintf(h.name, sizeof(h.name), "%.63s", e->d_name);
        more = s->cb(s->ctx, &h);
    }
    (void)closedir(dir);
    return more;
}

static bool each_process(struct search *s, bool (*look)(struct search *s, const char *pid))
{
    char path[PATH_MAX];
    const struct dirent *e;
    bool more = true;

    (void)snprintf(path, sizeof(path), "%s/proc", s->root);
    DIR *dir = opendir(path);
    if (dir == NULL)
        return true;
    while (more && (e = readdir(dir)) != NULL)
        more = e->d_name[0] < '1' || e->d_name[0] > '9' || look(s, e->d_name);
    (void)closedir(dir);
    return more;
}

static void each_below(const char *root, dev_t device,
                       bool (*cb)(void *ctx, const struct holder *h), void *ctx)
{
    struct search s = { .root = root, .device = device, .cb = cb, .ctx = ctx };
    bool more = each_stacked_device(&s) && each_process(&s, each_mount_id);

    /* a use says more than a mount: every process of a namespace shows the same mounts */
    more = more && each_process(&s, each_use);
    s.n_seen = 0;
    (void)(more && s.mounted && each_process(&s, each_mount));
    free(s.mount_ids);
}

void holders_each(dev_t device, bool (*cb)(void *ctx, const struct holder *h), void *ctx)
{
    each_below("", device, cb, ctx);
}

void holder_text(const struct holder *h, char *ret, size_t size)
{
    switch (h->kind) {
    case HOLDER_DEVICE:
        (void)snprintf(ret, size, "device '%s' lies on it", h->name);
        break;
    case HOLDER_PROCESS:
        (void)snprintf(ret, size, "process %s (%s) has '%.128s' open", h->pid, h->name, h->path);
        break;
    case HOLDER_MOUNT:
        (void)snprintf(ret, size, "it is mounted at '%.200s' for process %s (%s)", h->path, h->pid,
                       h->name);
        break;
    }
    utf8_make_plain(ret);
}

static bool take_first(void *ctx, const struct holder *h)
{
    *(struct holder *)ctx = *h;
    return false;
}

static bool first_below(const char *root, dev_t device, struct holder *ret)
{
    struct holder h = { .name = "" };

    each_below(root, device, take_first, &h);
    if (h.name[0] != '\0')
        *ret = h;
    return h.name[0] != '\0';
}

bool holders_first(dev_t device, struct holder *ret)
{
    return first_below("", device, ret);
}

void holders_describe_below(const char *root, dev_t device, char *ret, size_t size)
{
    struct holder h;

    if (first_below(root, device, &h))
        holder_text(&h, ret, size);
    else
        (void)snprintf(ret, size, "its holder isn't visible from this pid namespace");
}

void holders_describe(dev_t device, char *ret, size_t size)
{
    holders_describe_below("", device, ret, size);
}

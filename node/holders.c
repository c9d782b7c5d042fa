/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/holders.h"

#include "common/cleanup.h"
#include "common/error.h"
#include "common/fs.h"
#include "node/mounts.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MOUNTINFO_MAX MIB(16)

/* One process, as far as it is looked at: its mounts are empty when they can't be read. */
struct process {
    const char *root; /* /proc and /sys are below it */
    const char *pid;
    dev_t mapping;
    struct mount_table mounts;
};

static void process_name(const struct process *p, char *ret, size_t size)
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/proc/%s/comm", p->root, p->pid);
    if (fs_read_line(path, ret, size, NULL) < 0)
        (void)snprintf(ret, size, "?");
}

static bool on_our_mount(const struct process *p, uint64_t mount_id)
{
    for (size_t i = 0; i < p->mounts.n; i++)
        if (p->mounts.items[i].id == mount_id)
            return mount_lies_on(&p->mounts.items[i], p->mapping);
    return false;
}

/* By the number of its device, and by its mount: a file on btrfs has a number that is nobody's.
 * Not stat(2): of a file on a network or FUSE file system it waits for that server, for ever when
 * that is dead. What is on a mapping the kernel knows without asking anybody. */
static bool on_mapping(const struct process *p, const char *path)
{
    struct statx st;

    if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_MNT_ID,
              &st) < 0)
        return false;
    return makedev(st.stx_dev_major, st.stx_dev_minor) == p->mapping ||
           (S_ISBLK(st.stx_mode) && makedev(st.stx_rdev_major, st.stx_rdev_minor) == p->mapping) ||
           ((st.stx_mask & STATX_MNT_ID) != 0 && on_our_mount(p, st.stx_mnt_id));
}

static bool name_link(const struct process *p, const char *link, char *ret, size_t size)
{
    char path[PATH_MAX], target[128], name[32];

    (void)snprintf(path, sizeof(path), "%s/proc/%.16s/%.280s", p->root, p->pid, link);
    if (!on_mapping(p, path))
        return false;
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    target[n < 0 ? 0 : n] = '\0';
    process_name(p, name, sizeof(name));
    (void)snprintf(ret, size, "process %s (%s) has '%s' open", p->pid, name, target);
    return true;
}

static bool name_open_file(const struct process *p, char *ret, size_t size)
{
    char path[PATH_MAX], link[300];
    struct dirent *e;
    bool found = false;

    (void)snprintf(path, sizeof(path), "%s/proc/%.16s/fd", p->root, p->pid);
    DIR *dir = opendir(path);
    if (dir == NULL)
        return false;
    while (!found && (e = readdir(dir)) != NULL) {
        (void)snprintf(link, sizeof(link), "fd/%s", e->d_name);
        found = e->d_name[0] != '.' && name_link(p, link, ret, size);
    }
    (void)closedir(dir);
    return found;
}

/* Unreadable: none, and the rest is looked at. */
static void read_mounts(struct process *p)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(MOUNTINFO_MAX);
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/proc/%.16s/mountinfo", p->root, p->pid);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fs_read_fd(fd, path, MOUNTINFO_MAX, &sb, NULL) < 0 ||
        mount_table_parse(strbuf_text(&sb), sb.len, &p->mounts, NULL) < 0)
        p->mounts = (struct mount_table){ .items = NULL, .n = 0 };
}

static bool name_mount(const struct process *p, char *ret, size_t size)
{
    char name[64];

    for (size_t i = 0; i < p->mounts.n; i++) {
        if (!mount_lies_on(&p->mounts.items[i], p->mapping))
            continue;
        process_name(p, name, sizeof(name));
        (void)snprintf(ret, size, "it is mounted at '%.200s' for process %s (%s)",
                       p->mounts.items[i].point, p->pid, name);
        return true;
    }
    return false;
}

static bool name_stacked_device(const char *root, dev_t mapping, char *ret, size_t size)
{
    char path[PATH_MAX];
    struct dirent *e;
    bool found = false;

    (void)snprintf(path, sizeof(path), "%s/sys/dev/block/%u:%u/holders", root, major(mapping),
                   minor(mapping));
    DIR *dir = opendir(path);
    if (dir == NULL)
        return false;
    while (!found && (e = readdir(dir)) != NULL) {
        if (e->d_name[0] == '.')
            continue;
        (void)snprintf(ret, size, "device '%.60s' lies on it", e->d_name);
        found = true;
    }
    (void)closedir(dir);
    return found;
}

static bool name_use(const struct process *p, char *ret, size_t size)
{
    static const char *const links[] = { "cwd", "root", "exe" };
    bool found = name_open_file(p, ret, size);

    for (size_t i = 0; i < ARRAY_SIZE(links) && !found; i++)
        found = name_link(p, links[i], ret, size);
    return found;
}

typedef bool name_function(const struct process *p, char *ret, size_t size);

static bool one_process(name_function *name, struct process p, char *ret, size_t size)
{
    read_mounts(&p);
    bool found = name(&p, ret, size);
    mount_table_release(&p.mounts);
    return found;
}

static bool any_process(const char *root, name_function *name, dev_t mapping, char *ret,
                        size_t size)
{
    char path[PATH_MAX];
    struct dirent *e;
    bool found = false;

    (void)snprintf(path, sizeof(path), "%s/proc", root);
    DIR *dir = opendir(path);
    if (dir == NULL)
        return false;
    while (!found && (e = readdir(dir)) != NULL)
        found = e->d_name[0] >= '1' && e->d_name[0] <= '9' &&
                one_process(name,
                            (struct process){ .root = root, .pid = e->d_name, .mapping = mapping },
                            ret, size);
    (void)closedir(dir);
    return found;
}

void holders_describe_below(const char *root, dev_t mapping, char *ret, size_t size)
{
    /* a use says more than a mount: every process of a namespace shows the same mounts */
    if (name_stacked_device(root, mapping, ret, size) ||
        any_process(root, name_use, mapping, ret, size) ||
        any_process(root, name_mount, mapping, ret, size))
        return;
    (void)snprintf(ret, size, "its holder isn't visible from this pid namespace");
}

void holders_describe(dev_t mapping, char *ret, size_t size)
{
    holders_describe_below("", mapping, ret, size);
}

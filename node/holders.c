/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/holders.h"

#include "common/cleanup.h"
#include "common/error.h"
#include "common/fs.h"
#include "node/mounts.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MOUNTINFO_MAX MIB(16)

static void process_name(const char *pid, char *ret, size_t size)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%s/comm", pid);
    if (fs_read_line(path, ret, size, NULL) < 0)
        (void)snprintf(ret, size, "?");
}

/* Not stat(2): of a file on a network or FUSE file system it waits for that server, for ever when
 * that is dead. What is on a mapping the kernel knows without asking anybody. */
static bool on_mapping(const char *path, dev_t mapping)
{
    struct statx st;

    if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE, &st) < 0)
        return false;
    return makedev(st.stx_dev_major, st.stx_dev_minor) == mapping ||
           (S_ISBLK(st.stx_mode) && makedev(st.stx_rdev_major, st.stx_rdev_minor) == mapping);
}

static bool name_link(const char *pid, const char *link, dev_t mapping, char *ret, size_t size)
{
    char path[320], target[128], name[32];

    (void)snprintf(path, sizeof(path), "/proc/%s/%s", pid, link);
    if (!on_mapping(path, mapping))
        return false;
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    target[n < 0 ? 0 : n] = '\0';
    process_name(pid, name, sizeof(name));
    (void)snprintf(ret, size, "process %s (%s) has '%s' open", pid, name, target);
    return true;
}

static bool name_open_file(const char *pid, dev_t mapping, char *ret, size_t size)
{
    char path[300], link[300];
    struct dirent *e;
    bool found = false;

    (void)snprintf(path, sizeof(path), "/proc/%.16s/fd", pid);
    DIR *dir = opendir(path);
    if (dir == NULL)
        return false;
    while (!found && (e = readdir(dir)) != NULL) {
        (void)snprintf(link, sizeof(link), "fd/%s", e->d_name);
        found = e->d_name[0] != '.' && name_link(pid, link, mapping, ret, size);
    }
    (void)closedir(dir);
    return found;
}

static bool name_mount(const char *pid, dev_t mapping, char *ret, size_t size)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(MOUNTINFO_MAX);
    AUTO_MOUNT_TABLE struct mount_table t = { .items = NULL, .n = 0 };
    char path[64], name[64];

    (void)snprintf(path, sizeof(path), "/proc/%.16s/mountinfo", pid);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fs_read_fd(fd, path, MOUNTINFO_MAX, &sb, NULL) < 0 ||
        mount_table_parse(strbuf_text(&sb), sb.len, &t, NULL) < 0)
        return false;
    for (size_t i = 0; i < t.n; i++) {
        if (t.items[i].dev != mapping)
            continue;
        process_name(pid, name, sizeof(name));
        (void)snprintf(ret, size, "it is mounted at '%.200s' for process %s (%s)", t.items[i].point,
                       pid, name);
        return true;
    }
    return false;
}

static bool name_stacked_device(dev_t mapping, char *ret, size_t size)
{
    char path[64];
    struct dirent *e;
    bool found = false;

    (void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/holders", major(mapping),
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

static bool name_use(const char *pid, dev_t mapping, char *ret, size_t size)
{
    static const char *const links[] = { "cwd", "root", "exe" };
    bool found = name_open_file(pid, mapping, ret, size);

    for (size_t i = 0; i < ARRAY_SIZE(links) && !found; i++)
        found = name_link(pid, links[i], mapping, ret, size);
    return found;
}

static bool any_process(bool (*name)(const char *, dev_t, char *, size_t), dev_t mapping, char *ret,
                        size_t size)
{
    DIR *dir = opendir("/proc");
    struct dirent *e;
    bool found = false;

    if (dir == NULL)
        return false;
    while (!found && (e = readdir(dir)) != NULL)
        found = e->d_name[0] >= '1' && e->d_name[0] <= '9' && name(e->d_name, mapping, ret, size);
    (void)closedir(dir);
    return found;
}

void holders_describe(dev_t mapping, char *ret, size_t size)
{
    /* a use says more than a mount: every process of a namespace shows the same mounts */
    if (name_stacked_device(mapping, ret, size) || any_process(name_use, mapping, ret, size) ||
        any_process(name_mount, mapping, ret, size))
        return;
    (void)snprintf(ret, size, "its holder isn't visible from this pid namespace");
}

/* SPDX-License-Identifier: Apache-2.0 */
/* doctor's checks of the machine: kernel, device nodes, tools, clock, swap. */
#include "common/base.h"
#include "cofferctl/doctor.h"

#include "common/blockdev.h"
#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/fs.h"
#include "common/strbuf.h"
#include "crypt/client.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/keyctl.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#define LIST_MS      15000u
#define SENSIBLE_NOW 1735689600 /* 2025-01-01: a clock before it was never set */

void check_user(const struct doctor *d, struct findings *f)
{
    if (d->root)
        findings_say(f, FOUND_OK, "", "root sees everything");
    else
        findings_say(f, FOUND_WARN, "run doctor as root",
                     "user %u can't look at all of it: what it can't see is a WARN below",
                     (unsigned)geteuid());
}

/* ---- device-mapper ---- */

void check_device_mapper(const struct doctor *d, struct findings *f)
{
    const struct crypt_client c = { .helper = d->crypt_helper };
    AUTO_MAPPING_LIST struct mapping_list list = { .items = NULL, .n = 0 };
    struct error err = ERROR_INIT;

    if (access("/sys/class/misc/device-mapper", F_OK) < 0) {
        findings_say(f, FOUND_FAIL, "modprobe dm_mod", "the kernel has no device-mapper");
        return;
    }
    if (!d->root || access(d->crypt_helper, X_OK) < 0) {
        findings_say(f, FOUND_OK, "", "the kernel has it");
        return;
    }
    if (crypt_list(&c, deadline_in(LIST_MS), &list, &err) < 0) {
        findings_say(f, FOUND_FAIL, "", "%s", err.msg);
        return;
    }
    size_t bad = 0;
    for (size_t i = 0; i < list.n; i++)
        bad += list.items[i].state != MAPPING_OK;
    findings_say(f, bad == 0 ? FOUND_OK : FOUND_WARN,
                 bad == 0 ? "" : "cofferctl node reconcile --dry-run",
                 "it answers: %zu mappings of Coffer, %zu of them dead or wrong", list.n, bad);
}

/* 1: it is registered; 0: it isn't; -1: nobody can say. */
static int has_target(const char *wanted)
{
    AUTO_CLOSE int fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
    AUTO_FREE struct dm_ioctl *io = calloc(1, 65536);

    if (fd < 0 || io == NULL)
        return -1;
    *io = (struct dm_ioctl){ .version = { 4, 0, 0 },
                             .data_size = 65536,
                             .data_start = sizeof(struct dm_ioctl) };
    if (ioctl(fd, DM_LIST_VERSIONS, io) < 0)
        return -1;
    for (size_t at = io->data_start; at + sizeof(struct dm_target_versions) < io->data_size;) {
        const struct dm_target_versions *t = (const void *)((const char *)io + at);
        if (strcmp(t->name, wanted) == 0)
            return 1;
        if (t->next == 0)
            break;
        at += t->next;
    }
    return 0;
}

static bool module_on_disk(const char *file)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(MIB(16));
    AUTO_CLOSE int fd = -1;
    char path[256], release[128];

    if (fs_read_line("/proc/sys/kernel/osrelease", release, sizeof(release), NULL) < 0)
        return false;
    (void)snprintf(path, sizeof(path), "/lib/modules/%s/modules.dep", release);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && fs_read_fd(fd, path, MIB(16), &text, NULL) == 0 &&
           strstr(strbuf_text(&text), file) != NULL;
}

void check_crypt_target(const struct doctor *d UNUSED, struct findings *f)
{
    int has = has_target("crypt");

    if (has < 0 && access("/sys/module/dm_crypt", F_OK) == 0)
        has = 1;
    if (has > 0)
        findings_say(f, FOUND_OK, "", "the kernel has the crypt target");
    else if (module_on_disk("/dm-crypt.ko"))
        findings_say(f, FOUND_OK, "", "the module is there and loads when it is needed");
    else if (has == 0)
        findings_say(f, FOUND_FAIL, "modprobe dm_crypt; or install a kernel with CONFIG_DM_CRYPT",
                     "the kernel has no crypt target");
    else
        findings_say(f, access("/sys/class/misc/device-mapper", F_OK) < 0 ? FOUND_FAIL : FOUND_WARN,
                     "modprobe dm_crypt; run doctor as root",
                     "the module isn't loaded, and the kernel can't be asked");
}

void check_loop(const struct doctor *d, struct findings *f)
{
    if (access("/dev/loop-control", F_OK) < 0 && access("/sys/module/loop", F_OK) < 0)
        findings_say(f, FOUND_FAIL, "modprobe loop", "the kernel has no loop devices");
    else if (d->root && access("/dev/loop-control", R_OK | W_OK) < 0 && errno != ENOENT)
        findings_say(f, FOUND_FAIL, "in a container: allow loop devices", "/dev/loop-control: %s",
                     strerror(errno));
    else
        findings_say(f, FOUND_OK, "", "the kernel has loop devices");
}

/* The key goes with this thread. */
void check_keyring(const struct doctor *d UNUSED, struct findings *f)
{
    long key =
        syscall(SYS_add_key, "user", "coffer:doctor", "x", (size_t)1, KEY_SPEC_THREAD_KEYRING);

    if (key >= 0)
        findings_say(f, FOUND_OK, "", "the kernel's keyring takes keys");
    else
        findings_say(f, FOUND_FAIL,
                     errno == ENOSYS   ? "use a kernel with CONFIG_KEYS"
                     : errno == EDQUOT ? "raise kernel.keys.maxkeys and kernel.keys.maxbytes"
                                       : "in a container: allow add_key and keyctl (seccomp)",
                     "the kernel's keyring takes no key: %s", strerror(errno));
}

/* ---- files ---- */

/* The directory, or the nearest above it that is there. */
static int look_above(const char *path, char ret_path[4096], struct statfs *ret)
{
    if (path[0] != '/' || str_copy(ret_path, 4096, path) < 0)
        return -1;
    while (statfs(ret_path, ret) < 0) {
        char *slash = strrchr(ret_path, '/');
        if (errno != ENOENT || slash == ret_path)
            return -1;
        *slash = '\0';
    }
    return 0;
}

/* The same rule as coffer-node's (node/mapper.c). */
void check_device_dir(const struct doctor *d, struct findings *f)
{
    static const char fix[] = "choose a --device-dir below /dev (for coffer-node and for doctor)";
    char path[4096];
    struct statfs fs;

    if (look_above(d->device_dir, path, &fs) < 0)
        findings_say(f, FOUND_FAIL, fix, "%s: %s", d->device_dir,
                     d->device_dir[0] == '/' ? strerror(errno) : "the path is not absolute");
    else if ((fs.f_flags & ST_NODEV) != 0)
        findings_say(f, FOUND_FAIL, fix, "%s is on a file system that is mounted nodev (at %s)",
                     d->device_dir, path);
    else if (fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC)
        findings_say(f, FOUND_FAIL, fix, "%s is neither on a devtmpfs nor on a tmpfs",
                     d->device_dir);
    else
        findings_say(f, FOUND_OK, "", "%s is on a file system that allows devices", d->device_dir);
}

void check_tools(const struct doctor *d UNUSED, struct findings *f)
{
    static const struct {
        const char *path, *package;
        enum verdict missing;
    } tools[] = {
        { "/sbin/mkfs.ext4", "e2fsprogs", FOUND_FAIL },
        { "/sbin/e2fsck", "e2fsprogs", FOUND_FAIL },
        { "/sbin/resize2fs", "e2fsprogs", FOUND_FAIL },
        /* the rest is for volumes of that kind only */
        { "/sbin/mkfs.xfs", "xfsprogs", FOUND_WARN },
        { "/sbin/mkfs.btrfs", "btrfs-progs", FOUND_WARN },
    };
    char fix[64];

    for (size_t i = 0; i < ARRAY_SIZE(tools); i++) {
        if (access(tools[i].path, X_OK) == 0)
            continue;
        (void)snprintf(fix, sizeof(fix), "apt-get install %s", tools[i].package);
        findings_say(f, tools[i].missing, fix, "%s: %s", tools[i].path, strerror(errno));
    }
    if (f->worst == FOUND_OK)
        findings_say(f, FOUND_OK, "", "the file systems' own programs are there");
}

/* ---- habits of the host ---- */

void check_clock(const struct doctor *d UNUSED, struct findings *f)
{
    struct timex t = { .modes = 0 };

    if (time(NULL) < SENSIBLE_NOW)
        findings_say(f, FOUND_FAIL, "timedatectl set-ntp true",
                     "the clock was never set: certificates and tokens can't be checked");
    else if (adjtimex(&t) == TIME_ERROR || (t.status & STA_UNSYNC) != 0)
        findings_say(f, FOUND_WARN, "timedatectl set-ntp true", "nothing keeps the clock right");
    else
        findings_say(f, FOUND_OK, "", "the clock is kept right");
}

/* A device-mapper device of dm-crypt, or compressed memory. */
static bool swap_is_safe(const char *path)
{
    struct stat st;
    char uuid[256];

    if (strncmp(path, "/dev/zram", 9) == 0)
        return true;
    return stat(path, &st) == 0 && S_ISBLK(st.st_mode) &&
           blockdev_line(st.st_rdev, "dm/uuid", uuid, sizeof(uuid), NULL) == 0 &&
           strncmp(uuid, "CRYPT-", 6) == 0;
}

void check_swap(const struct doctor *d UNUSED, struct findings *f)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(65536);
    AUTO_CLOSE int fd = open("/proc/swaps", O_RDONLY | O_CLOEXEC);
    char path[256];

    if (fd < 0 || fs_read_fd(fd, "/proc/swaps", 65536, &text, NULL) < 0) {
        findings_say(f, FOUND_OK, "", "the kernel has no swap");
        return;
    }
    const char *line = strchr(strbuf_text(&text), '\n');
    for (; line != NULL && line[1] != '\0'; line = strchr(line + 1, '\n')) {
        if (sscanf(line + 1, "%255s", path) == 1 && !swap_is_safe(path))
            findings_say(f, FOUND_WARN, "swapoff it, or use an encrypted one (crypttab: swap)",
                         "%s isn't encrypted: what applications read from volumes can be written "
                         "there in clear (Coffer's own keys are locked in memory)",
                         path);
    }
    if (f->worst == FOUND_OK)
        findings_say(f, FOUND_OK, "", "no swap, or an encrypted one");
}

void check_cores(const struct doctor *d UNUSED, struct findings *f)
{
    char pattern[256] = "", dumpable[8] = "0";

    (void)!fs_read_line("/proc/sys/kernel/core_pattern", pattern, sizeof(pattern), NULL);
    (void)!fs_read_line("/proc/sys/fs/suid_dumpable", dumpable, sizeof(dumpable), NULL);
    if (strcmp(dumpable, "1") == 0)
        findings_say(f, FOUND_WARN, "sysctl fs.suid_dumpable=0",
                     "fs.suid_dumpable=1 lets programs that changed their user dump core readably");
    else
        findings_say(f, FOUND_OK, "",
                     "Coffer's daemons dump none; those of applications go to '%s'", pattern);
}

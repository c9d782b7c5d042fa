/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rig.h: a node's view of the machine without dm-crypt, for root: the program gets a mount
 * namespace of its own, where a tmpfs lies over /sys/block and /sys/dev/block, so that a mapping is
 * what a test writes there. A tmpfs stands for the mapping's file system (its device number is the
 * mapping's), an unbound loop device for the mapping itself. Tests are skipped without root or loop
 * devices. Any failure ends the test.
 */
#ifndef COFFER_TESTS_UNIT_NODE_RIG_H
#define COFFER_TESTS_UNIT_NODE_RIG_H

#include "tests/support/unit.h"

#include "common/fs.h"
#include "node/mapper.h"
#include "node/mounts.h"
#include "tests/support/namespace.h"
#include "tests/support/skip.h"
#include "tests/support/tmpdir.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define RIG_HASH "0123456789abcdef0123456789abcdef"
#define RIG_LOOP makedev(7, rig_number)     /* ours, till the program ends */
#define RIG_NEXT makedev(7, rig_number + 1) /* a number for nodes that are never opened */
#define RIG_UUID "11111111-2222-4333-8444-555555555555"

/* Programs run side by side and each removes its device at its end: a pid's own number, far above
 * the lowest free ones that others use. Minor numbers have 20 bits. */
static unsigned rig_number;

static inline void rig_mount_tmpfs(const char *path)
{
    if (mount("rig", path, "tmpfs", 0, "mode=0755") < 0)
        fail_msg("tmpfs at '%s': %s", path, strerror(errno));
}

/* Why the rig can't be set up here; NULL: it can. */
static inline const char *rig_unusable(void)
{
    if (geteuid() != 0)
        return SKIP_NO_ROOT;
    if (access("/dev/loop-control", R_OK | W_OK) < 0)
        return SKIP_NO_LOOPS;
    return namespace_possible() ? NULL : SKIP_NO_NAMESPACE;
}

static inline void rig_enter(void)
{
    if (namespace_enter() < 0)
        err(1, "a mount namespace of our own");
    rig_mount_tmpfs("/mnt"); /* the tests' directories go with the namespace */
    if (setenv("TMPDIR", "/mnt", 1) < 0)
        err(1, "setenv");
}

static inline void rig_write(const char *dir, const char *name, const char *text)
{
    char path[1024];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "we");
    if (f == NULL || fprintf(f, "%s\n", text) < 0 || fclose(f) != 0)
        fail_msg("write '%s': %s", path, strerror(errno));
}

static inline void rig_mkdir(const char *path)
{
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        fail_msg("mkdir '%s': %s", path, strerror(errno));
}

/* What the kernel does to an ext4 after an error: its super block is read-only, no mount of it. */
static inline void rig_fail_file_system(const char *path)
{
    AUTO_CLOSE int fd = fspick(AT_FDCWD, path, FSPICK_CLOEXEC);

    if (fd < 0 || fsconfig(fd, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0 ||
        fsconfig(fd, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0)
        fail_msg("'%s' read-only: %s", path, strerror(errno));
}

/* A live mapping as sysfs shows it: /sys/block/<block>, and the same by number. */
static inline void rig_mapping(const char *block, const char *dm_name, const char *uuid, dev_t dev,
                               bool read_only)
{
    char dir[128], dm[160], number[32], by_number[160], dm_uuid[DM_UUID_MAX + 1];

    volume_dm_uuid(uuid, dm_name, dm_uuid);
    (void)snprintf(number, sizeof(number), "%u:%u", major(dev), minor(dev));
    (void)snprintf(dir, sizeof(dir), "/sys/block/%s", block);
    (void)snprintf(dm, sizeof(dm), "%s/dm", dir);
    (void)snprintf(by_number, sizeof(by_number), "/sys/dev/block/%s", number);
    rig_mkdir(dir);
    rig_mkdir(dm);
    rig_write(dm, "name", dm_name);
    rig_write(dm, "uuid", dm_uuid);
    rig_write(dir, "dev", number);
    rig_write(dir, "size", "32768");
    rig_write(dir, "ro", read_only ? "1" : "0");
    (void)unlink(by_number);
    if (symlink(dir, by_number) < 0)
        fail_msg("symlink '%s': %s", by_number, strerror(errno));
}

/* Takes down what a test mounted below its directory, and forgets the mappings. */
static inline int rig_clear(void **state UNUSED)
{
    AUTO_MOUNT_TABLE struct mount_table t = { .items = NULL, .n = 0 };
    struct error err = ERROR_INIT;

    if (rig_unusable() != NULL)
        return 0;
    if (mount_table_load(&t, &err) < 0)
        return -1;
    for (size_t i = t.n; i-- > 0;)
        if (strstr(t.items[i].point, "/coffer-test.") != NULL ||
            strcmp(t.items[i].point, "/sys/block") == 0 ||
            strcmp(t.items[i].point, "/sys/dev/block") == 0)
            (void)umount2(t.items[i].point, MNT_DETACH);
    rig_mount_tmpfs("/sys/block");
    rig_mount_tmpfs("/sys/dev/block");
    return 0;
}

#define NEEDS_RIG()                        \
    do {                                   \
        const char *why_ = rig_unusable(); \
        if (why_ != NULL) {                \
            skip_because(why_);            \
            return;                        \
        }                                  \
    } while (0)

#define RIG_TEST(name) cmocka_unit_test_setup(name, rig_clear)

static inline void rig_loop(unsigned long request)
{
    AUTO_CLOSE int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

    if (ioctl(control, request, (long)minor(RIG_LOOP)) < 0 && errno != EEXIST)
        warn("loop device %u", minor(RIG_LOOP));
}

static inline void rig_end(void)
{
    rig_loop(LOOP_CTL_REMOVE);
}

/* To be called first in main: the namespace goes with the program. A test that hangs ends it. */
static inline void rig_start(void)
{
    (void)alarm(300);
    rig_number = 1000 + 2 * ((unsigned)getpid() % 500000);
    if (rig_unusable() != NULL)
        return;
    rig_enter();
    rig_loop(LOOP_CTL_ADD);
    (void)atexit(rig_end);
}

#endif

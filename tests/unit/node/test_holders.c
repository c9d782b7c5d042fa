/* SPDX-License-Identifier: Apache-2.0 */
/* Who keeps a mapping open, in words. Needs root (rig.h). */
#include "common/base.h"
#include "tests/unit/node/rig.h"

#include "common/holders.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* A process that has done `prepare` and waits until it is killed. */
static pid_t start(int (*prepare)(const char *path), const char *path)
{
    int ready[2];
    char byte = 0;

    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)prctl(PR_SET_NAME, "holder");
        if (prepare(path) == 0 && write(ready[1], "x", 1) == 1)
            for (;;)
                (void)pause();
        _exit(1);
    }
    (void)close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    (void)close(ready[0]);
    return child;
}

static void end(pid_t child)
{
    (void)kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static int open_it(const char *path)
{
    return open(path, O_RDONLY) < 0 ? -1 : 0;
}

static int work_there(const char *path)
{
    return chdir(path);
}

static int own_mounts(const char *path)
{
    return unshare(CLONE_NEWNS);
}

static dev_t device_of(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return st.st_dev;
}

static void expect_holder(dev_t dev, const char *want)
{
    char who[320];

    holders_describe(dev, who, sizeof(who));
    assert_string_equal(who, want);
}

static void test_nobody(void **state UNUSED)
{
    NEEDS_RIG();
    expect_holder(makedev(4000, 1000), "its holder isn't visible from this pid namespace");
}

static void test_open_file(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = { .path = "", .fd = -1 };
    char file[600], want[800];

    NEEDS_RIG();
    t = tmpdir_make();
    rig_mount_tmpfs(t.path);
    (void)snprintf(file, sizeof(file), "%s/file", t.path);
    assert_int_equal(mknod(file, S_IFREG | 0600, 0), 0);
    pid_t child = start(open_it, file);
    (void)snprintf(want, sizeof(want), "process %d (holder) has '%s' open", (int)child, file);
    expect_holder(device_of(t.path), want);
    end(child);
}

static void test_working_directory(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = { .path = "", .fd = -1 };
    char want[800];

    NEEDS_RIG();
    t = tmpdir_make();
    rig_mount_tmpfs(t.path);
    pid_t child = start(work_there, t.path);
    (void)snprintf(want, sizeof(want), "process %d (holder) has '%s' open", (int)child, t.path);
    expect_holder(device_of(t.path), want);
    end(child);
}

/* The device itself, by a node of any name. */
static void test_open_device(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = { .path = "", .fd = -1 };
    char node[600], want[800];

    NEEDS_RIG();
    t = tmpdir_make();
    (void)snprintf(node, sizeof(node), "%s/node", t.path);
    assert_int_equal(mknod(node, S_IFBLK | 0600, RIG_LOOP), 0);
    pid_t child = start(open_it, node);
    (void)snprintf(want, sizeof(want), "process %d (holder) has '%s' open", (int)child, node);
    expect_holder(RIG_LOOP, want);
    end(child);
}

/* A mount that only another namespace has left. */
static void test_mounted_elsewhere(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = { .path = "", .fd = -1 };
    char want[800];

    NEEDS_RIG();
    t = tmpdir_make();
    rig_mount_tmpfs(t.path);
    dev_t dev = device_of(t.path);
    pid_t child = start(own_mounts, t.path);
    assert_int_equal(umount2(t.path, 0), 0);
    (void)snprintf(want, sizeof(want), "it is mounted at '%s' for process %d (holder)", t.path,
                   (int)child);
    expect_holder(dev, want);
    end(child); /* and the number is free: a program that runs beside this one may have it next */
}

static void test_stacked_device(void **state UNUSED)
{
    NEEDS_RIG();
    rig_mapping("dm-0", "coffer-" RIG_HASH "-0badcafe", RIG_UUID, RIG_LOOP, false);
    rig_mkdir("/sys/block/dm-0/holders");
    rig_mkdir("/sys/block/dm-0/holders/loop9");
    expect_holder(RIG_LOOP, "device 'loop9' lies on it");
}

/* Some other process has a file open whose server never answers (FUSE here, as NFS would): looking
 * at it must not wait. The rig's alarm ends this program when it does. */
static void test_dead_server(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = { .path = "", .fd = -1 };
    char options[128];

    NEEDS_RIG();
    AUTO_CLOSE int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    t = tmpdir_make();
    (void)snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse);
    if (fuse < 0 || mount("rig", t.path, "fuse", 0, options) < 0) {
        skip_because("no FUSE file system can be mounted here");
        return;
    }
    AUTO_CLOSE int open_there = open(t.path, O_PATH | O_CLOEXEC); /* asks nobody */
    assert_true(open_there >= 0);
    (void)alarm(60);
    expect_holder(makedev(4000, 1000), "its holder isn't visible from this pid namespace");
    (void)alarm(300);
    assert_int_equal(umount2(t.path, MNT_DETACH), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(test_nobody),
        RIG_TEST(test_open_file),
        RIG_TEST(test_working_directory),
        RIG_TEST(test_open_device),
        RIG_TEST(test_mounted_elsewhere),
        RIG_TEST(test_stacked_device),
        RIG_TEST(test_dead_server),
    };

    rig_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/holders.h"

#include "common/parse.h"
#include "tests/support/tmpdir.h"
#include "tests/support/unit.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct look {
    pid_t pid;
    size_t processes, mounts, ours, unfit;
    char path[256];
    size_t most; /* then stop */
};

static bool note(void *ctx, const struct holder *h)
{
    struct look *l = ctx;
    char pid[16];

    (void)snprintf(pid, sizeof(pid), "%d", (int)l->pid);
    l->processes += h->kind == HOLDER_PROCESS;
    l->mounts += h->kind == HOLDER_MOUNT;
    l->unfit += !utf8_valid(h->name, strlen(h->name)) || !utf8_valid(h->path, strlen(h->path));
    if (h->kind == HOLDER_PROCESS && strcmp(h->pid, pid) == 0) {
        l->ours++;
        (void)snprintf(l->path, sizeof(l->path), "%s", h->path);
    }
    return l->processes + l->mounts < l->most;
}

/* This process has a file open on the file system that the directory is on. */
static void test_open_file(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    struct look l = { .pid = getpid(), .most = SIZE_MAX };
    struct stat st;

    assert_int_equal(fstat(t.fd, &st), 0);
    holders_each(st.st_dev, note, &l);
    assert_int_equal(l.ours, 1);
}

static void test_stops_when_told(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    struct look l = { .pid = getpid(), .most = 1 };
    struct stat st;

    assert_int_equal(fstat(t.fd, &st), 0);
    holders_each(st.st_dev, note, &l);
    assert_int_equal(l.processes + l.mounts, 1);
}

static void test_mounts_are_told_once(void **state UNUSED)
{
    struct look l = { .pid = getpid(), .most = SIZE_MAX };
    struct stat st;

    assert_int_equal(stat("/proc", &st), 0);
    holders_each(st.st_dev, note, &l);
    assert_in_range(l.mounts, 1, 500); /* not once for each process */
}

static void test_nobody(void **state UNUSED)
{
    struct look l = { .pid = getpid(), .most = SIZE_MAX };
    char text[128];

    holders_each(makedev(4095, 1048575), note, &l);
    assert_int_equal(l.processes + l.mounts, 0);
    holders_describe(makedev(4095, 1048575), text, sizeof(text));
    assert_string_equal(text, "its holder isn't visible from this pid namespace");
}

/* A process of a made-up /proc, with one file open and no list of mounts. */
static void make_process(const struct tmpdir *t, const char *pid, const char *file)
{
    static const char *const dirs[] = { "", "/fd", "/ns" };
    char path[64];

    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
        (void)snprintf(path, sizeof(path), "proc/%s%s", pid, dirs[i]);
        assert_int_equal(mkdirat(t->fd, path, 0700), 0);
    }
    (void)snprintf(path, sizeof(path), "proc/%s/fd/3", pid);
    assert_int_equal(symlinkat(file, t->fd, path), 0);
    (void)snprintf(path, sizeof(path), "proc/%s/comm", pid);
    tmpdir_write(t, path, "holder\n", 7);
    (void)snprintf(path, sizeof(path), "proc/%s/ns/mnt", pid);
    assert_int_equal(linkat(t->fd, "ns", t->fd, path, 0), 0);
}

static void show_mount(const struct tmpdir *t, const char *pid, const char *file, dev_t dev)
{
    char path[64], line[256];
    struct statx st;

    assert_int_equal(statx(AT_FDCWD, file, 0, STATX_MNT_ID, &st), 0);
    assert_true((st.stx_mask & STATX_MNT_ID) != 0);
    (void)snprintf(path, sizeof(path), "proc/%s/mountinfo", pid);
    int n = snprintf(line, sizeof(line), "%llu 1 %u:%u / /mnt rw - btrfs none rw\n",
                     (unsigned long long)st.stx_mnt_id, major(dev), minor(dev));
    tmpdir_write(t, path, line, (size_t)n);
}

/* The list of mounts of a namespace is read from one of its processes, whichever shows it: a node
 * has thousands, and a tenant can make the list long. */
static void test_one_list_for_a_namespace(void **state UNUSED)
{
    static const char *const shown_by[] = { "7", "8" };
    const dev_t device = makedev(4095, 1048575);

    for (size_t i = 0; i < ARRAY_SIZE(shown_by); i++) {
        AUTO_TMPDIR struct tmpdir t = tmpdir_make();
        char file[600], text[700], want[700];

        (void)snprintf(file, sizeof(file), "%s", tmpdir_path(&t, "file"));
        tmpdir_write(&t, "file", "", 0);
        tmpdir_write(&t, "ns", "", 0);
        assert_int_equal(mkdirat(t.fd, "proc", 0700), 0);
        make_process(&t, "7", file);
        make_process(&t, "8", "/proc/version");
        show_mount(&t, shown_by[i], file, device);
        holders_describe_below(t.path, device, text, sizeof(text));
        (void)snprintf(want, sizeof(want), "process 7 (holder) has '%s' open", file);
        assert_string_equal(text, want);
    }
}

static void test_no_name(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    char text[700];
    struct stat st;

    tmpdir_write(&t, "ns", "", 0);
    assert_int_equal(stat("/", &st), 0);
    assert_int_equal(mkdirat(t.fd, "proc", 0700), 0);
    make_process(&t, "7", "/");
    tmpdir_write(&t, "proc/7/comm", "\n", 1);
    holders_describe_below(t.path, st.st_dev, text, sizeof(text));
    assert_string_equal(text, "process 7 (?) has '/' open");
}

/* JSON and gRPC want UTF-8: one process with such a name would hide all the others. */
static void test_strange_names(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    struct look l = { .pid = getpid(), .most = SIZE_MAX };
    struct holder h = { HOLDER_PROCESS, "7", "x", "" };
    char text[512], before[16];
    struct stat st;

    assert_int_equal(fstat(t.fd, &st), 0);
    assert_int_equal(prctl(PR_GET_NAME, before), 0);
    assert_int_equal(prctl(PR_SET_NAME, "\xff\x1b[2J"), 0);
    holders_each(st.st_dev, note, &l);
    assert_int_equal(prctl(PR_SET_NAME, before), 0);
    assert_int_equal(l.ours, 1);
    assert_int_equal(l.unfit, 0);
    for (size_t i = 0; i < 100; i++)
        (void)snprintf(h.path + 1 + 2 * i, 3, "\xd0\xb9"); /* cut in the middle of one */
    h.path[0] = '/';
    holder_text(&h, text, sizeof(text));
    assert_true(utf8_valid(text, strlen(text)));
}

static void test_text(void **state UNUSED)
{
    static const struct {
        struct holder h;
        const char *text;
    } rows[] = {
        { { HOLDER_DEVICE, "", "dm-3", "" }, "device 'dm-3' lies on it" },
        { { HOLDER_PROCESS, "4711", "postgres", "/x" }, "process 4711 (postgres) has '/x' open" },
        { { HOLDER_MOUNT, "1", "init", "/mnt" }, "it is mounted at '/mnt' for process 1 (init)" },
    };
    char text[128];

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        holder_text(&rows[i].h, text, sizeof(text));
        assert_string_equal(text, rows[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_file),
        cmocka_unit_test(test_stops_when_told),
        cmocka_unit_test(test_mounts_are_told_once),
        cmocka_unit_test(test_nobody),
        cmocka_unit_test(test_one_list_for_a_namespace),
        cmocka_unit_test(test_no_name),
        cmocka_unit_test(test_strange_names),
        cmocka_unit_test(test_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

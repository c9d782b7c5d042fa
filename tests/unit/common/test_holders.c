/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/holders.h"

#include "tests/support/tmpdir.h"
#include "tests/support/unit.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct look {
    pid_t pid;
    size_t processes, mounts, ours;
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
        cmocka_unit_test(test_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

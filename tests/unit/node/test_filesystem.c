/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/tmpdir.h"
#include "tests/support/unit.h"

#include "common/proc.h"
#include "node/filesystem.h"
#include "volume/fskind.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the controller makes, the node must know. */
static void test_a_row_for_each_kind(void **state UNUSED)
{
    static const char *const names[] = { "ext4", "xfs", "btrfs", "none" };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        const struct filesystem *fs = filesystem_find(names[i]);

        assert_non_null(fs);
        assert_non_null(fs_kind_find(names[i]));
        assert_string_equal(fs->name, names[i]);
        if (strcmp(names[i], FS_KIND_NONE) == 0)
            continue;
        assert_string_equal(fs->mount_type, names[i]);
        assert_true(fs->make != NULL && fs->check != NULL && fs->device != NULL &&
                    fs->size != NULL && fs->grow != NULL && fs->look != NULL &&
                    fs->advice != NULL && fs->mount_data != NULL && fs->mount_sparse != NULL &&
                    fs->mount_discard != NULL);
    }
    assert_null(filesystem_find("vfat"));
}

static void test_damage(void **state UNUSED)
{
    static const int damage[] = { EUCLEAN, EBADMSG, EINVAL, EIO };
    static const int other[] = { 0, ENOENT, EBUSY, ENOMEM, EPERM, EEXIST, EROFS };

    for (size_t i = 0; i < ARRAY_SIZE(damage); i++)
        assert_true(filesystem_is_damage(damage[i]));
    for (size_t i = 0; i < ARRAY_SIZE(other); i++)
        assert_false(filesystem_is_damage(other[i]));
}

static void test_advice(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    (void)error_set(&err, ERR_DATA_LOSS, "it is broken");
    assert_int_equal(filesystem_advice(&filesystem_xfs, "p.1.2", "/pool/image", &err), -1);
    assert_int_equal(err.code, ERR_DATA_LOSS);
    assert_string_equal(err.msg,
                        "it is broken. Type on this node: cofferctl volume unlock-key p.1.2 "
                        "--reason repair | cryptsetup open '/pool/image' repair && xfs_repair -n "
                        "/dev/mapper/repair; cryptsetup close repair. That only looks; without -n "
                        "it repairs");
}

/* However long the cause is, the commands are whole. */
static void test_advice_is_whole(void **state UNUSED)
{
    static const char *const names[] = { "ext4", "xfs", "btrfs" };
    char cause[900], source[256], id[100];

    memset(cause, 'c', sizeof(cause));
    memset(source, 's', sizeof(source));
    memset(id, 'i', sizeof(id));
    cause[sizeof(cause) - 1] = source[sizeof(source) - 1] = id[sizeof(id) - 1] = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct error err = ERROR_INIT;

        (void)error_set(&err, ERR_DATA_LOSS, "%s", cause);
        assert_int_equal(filesystem_advice(filesystem_find(names[i]), id, source, &err), -1);
        (void)error_prefix(&err, "stage step '%s'", "filesystem");
        assert_non_null(strstr(err.msg, "; cryptsetup close repair"));
        assert_true(strlen(err.msg) < sizeof(err.msg) - 4);
    }
}

static void test_missing_program(void **state UNUSED)
{
    static const char *const argv[] = { "/nowhere/mkfs.xfs", NULL };

    assert_fails(filesystem_run_ok(argv, "xfsprogs", 0, 1000, &err), ERR_PRECONDITION,
                 "'/nowhere/mkfs.xfs' can't be run: install xfsprogs");
}

static void test_failing_program(void **state UNUSED)
{
    static const char *const argv[] = { "/bin/sh", "-c", "echo no room >&2; exit 3", NULL };

    assert_fails(filesystem_run_ok(argv, "sh", STDERR_FILENO, 60000, &err), ERR_INTERNAL,
                 "sh failed (exit 3, signal 0): no room");
}

/* The descriptor that a child inherits is the lock. */
static void test_child_has_the_lock(void **state UNUSED)
{
    static const char *const argv[] = { "/bin/sh", "-c", "readlink /proc/self/fd/3", NULL };
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = -1 };
    AUTO_TMPDIR struct tmpdir dir = tmpdir_make();
    int fd = open(tmpdir_path(&dir, "lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_works(filesystem_run(argv, "sh", fd, 60000, &r, &err));
    assert_int_equal(r.exit_code, 0);
    assert_non_null(strstr(strbuf_text(&r.output), "/lock"));
    (void)close(fd);
}

/* What is mounted must lie on the device that was named. */
static void test_verify(void **state UNUSED)
{
    struct stat st;
    int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    assert_works(filesystem_verify(&filesystem_xfs, fd, st.st_dev, &err));
    assert_fails(filesystem_verify(&filesystem_xfs, fd, st.st_dev + 1, &err), ERR_DATA_LOSS,
                 "what was mounted lies on another device");
    (void)close(fd);
}

static void test_growth_of_another(void **state UNUSED)
{
    const struct fs_device d = { .path = "/none", .fd = -1, .lock_fd = -1 };
    struct error err = ERROR_INIT;
    bool grown = false;

    assert_int_equal(filesystem_grow(&filesystem_xfs, &d, 1, "/proc", &grown, &err), -1);
    assert_int_equal(err.code, ERR_DATA_LOSS);
    assert_false(grown);
    assert_int_equal(filesystem_grow(&filesystem_xfs, &d, 1, "/nowhere", &grown, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_row_for_each_kind),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_advice),
        cmocka_unit_test(test_advice_is_whole),
        cmocka_unit_test(test_missing_program),
        cmocka_unit_test(test_failing_program),
        cmocka_unit_test(test_child_has_the_lock),
        cmocka_unit_test(test_verify),
        cmocka_unit_test(test_growth_of_another),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What a file system tool says reaches the error. On a plain file: the tools take one. */
#include "common/base.h"
#include "tests/support/unit.h"

#include "common/cleanup.h"
#include "node/filesystem.h"
#include "tests/support/tmpdir.h"

#include <fcntl.h>
#include <unistd.h>

static const struct filesystem *ext4(void)
{
    return filesystem_find("ext4");
}

static int image_of(const struct tmpdir *t)
{
    int fd = open(tmpdir_path(t, "image"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)MIB(16)), 0);
    return fd;
}

static void test_table(void **state UNUSED)
{
    assert_non_null(ext4());
    assert_null(filesystem_find("none")->mount_type);
    assert_null(filesystem_find("xfs"));
}

static void test_make_and_check(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    AUTO_CLOSE int fd = image_of(&t);

    assert_works(ext4()->make(tmpdir_path(&t, "image"), fd, &err));
    assert_works(ext4()->check(tmpdir_path(&t, "image"), fd, &err));
}

static void expect_words(const struct error *err, enum error_code code, const char *start,
                         const char *word)
{
    if (err->code != code || strncmp(err->msg, start, strlen(start)) != 0 ||
        strstr(err->msg, word) == NULL)
        fail_msg("%s: %s", error_code_name(err->code), err->msg);
}

static void test_failure_says_why(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    AUTO_CLOSE int fd = image_of(&t);
    struct error err = ERROR_INIT;

    assert_int_equal(ext4()->make(tmpdir_path(&t, "none/image"), fd, &err), -1);
    expect_words(&err, ERR_INTERNAL, "mkfs.ext4 failed (exit 1, signal 0): ", "does not exist");
    assert_int_equal(ext4()->check(tmpdir_path(&t, "image"), fd, &err), -1);
    expect_words(&err, ERR_INTERNAL,
                 "e2fsck -p won't repair the file system by itself (exit 8, signal 0): ",
                 "Bad magic number");
}

/* Errors that only a person may repair: they stay as they are, and the sentence says where. */
static void test_damage(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    AUTO_CLOSE int fd = image_of(&t);
    struct error err = ERROR_INIT;
    char junk[4096], back[4096];

    assert_int_equal(ext4()->make(tmpdir_path(&t, "image"), fd, &err), 0);
    memset(junk, 0x5a, sizeof(junk));
    for (off_t at = 8192; at < (off_t)MIB(1); at += (off_t)sizeof(junk))
        assert_int_equal(pwrite(fd, junk, sizeof(junk), at), sizeof(junk));
    assert_int_equal(ext4()->check(tmpdir_path(&t, "image"), fd, &err), -1);
    expect_words(
        &err, ERR_DATA_LOSS,
        "e2fsck -p won't repair the file system by itself (exit 4, signal 0): ", "e2fsck: ");
    assert_int_equal(pread(fd, back, sizeof(back), (off_t)MIB(1) / 2), sizeof(back));
    assert_memory_equal(back, junk, sizeof(junk));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_make_and_check),
        cmocka_unit_test(test_failure_says_why),
        cmocka_unit_test(test_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/node/fsfile.h"

#define MAKE(bytes) fs_file_make(&filesystem_ext4, "/sbin/mkfs.ext4", bytes)

static void test_made_and_checked(void **state UNUSED)
{
    AUTO_FS_FILE struct fs_file f = MAKE(MIB(16));
    uint64_t bytes = 0;

    assert_works(filesystem_ext4.check(&f.d, &err));
    assert_works(filesystem_ext4.check(&f.d, &err));
    assert_works(filesystem_ext4.size(&f.d, -1, &bytes, &err));
    assert_int_equal(bytes, MIB(16));
}

/* e2fsck -p would take a backup superblock here, without asking. */
static void test_superblock(void **state UNUSED)
{
    static const unsigned char zeros[4096];
    static const unsigned at[] = { 4, 100, 0x3fc, 0x3ff };
    AUTO_FS_FILE struct fs_file f = MAKE(MIB(64));

    for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
        fs_file_flip(&f, 1024 + at[i]);
        fs_file_refused(&f, &filesystem_ext4, "checksum is wrong");
        fs_file_flip(&f, 1024 + at[i]);
    }
    assert_works(filesystem_ext4.check(&f.d, &err));
    fs_file_put(&f, 0, zeros, sizeof(zeros));
    fs_file_refused(&f, &filesystem_ext4, "superblock is not one");
}

static void test_device_too_small(void **state UNUSED)
{
    AUTO_FS_FILE struct fs_file f = MAKE(MIB(32));

    assert_int_equal(ftruncate(f.d.fd, (off_t)MIB(24)), 0);
    fs_file_refused(&f, &filesystem_ext4, "its device only 25165824");
    assert_int_equal(ftruncate(f.d.fd, 512), 0);
    struct error err = ERROR_INIT;
    assert_int_equal(filesystem_ext4.check(&f.d, &err), -1);
}

static void test_failure_says_why(void **state UNUSED)
{
    AUTO_FS_FILE struct fs_file f = MAKE(MIB(16));
    struct error err = ERROR_INIT;

    f.d.path = "/nowhere/image";
    assert_int_equal(filesystem_ext4.make(&f.d, &err), -1);
    assert_int_equal(err.code, ERR_INTERNAL);
    assert_non_null(strstr(err.msg, "mkfs.ext4 failed (exit 1, signal 0): "));
    assert_non_null(strstr(err.msg, "does not exist"));
}

/* Something that e2fsck must be asked about: the root directory's inode. */
static void test_unsafe_repair(void **state UNUSED)
{
    AUTO_FS_FILE struct fs_file f = MAKE(MIB(16));
    unsigned char noise[KIB(128)];
    struct error err = ERROR_INIT;

    memset(noise, 0x5a, sizeof(noise));
    for (uint64_t at = KIB(64); at < MIB(2); at += sizeof(noise))
        fs_file_put(&f, at, noise, sizeof(noise));
    assert_int_equal(filesystem_ext4.check(&f.d, &err), -1);
    assert_int_equal(err.code, ERR_DATA_LOSS);
    assert_non_null(strstr(err.msg, "e2fsck -p won't repair the file system by itself (exit 4"));
    assert_non_null(strstr(err.msg, "e2fsck: "));
}

/* Marked as having errors: looked at whole, but not where what e2fsck writes may be lost. */
static void test_no_repair_without_space(void **state UNUSED)
{
    AUTO_FS_FILE struct fs_file f = MAKE(MIB(16));
    const char *const mark[] = { "/sbin/tune2fs", "-E", "force_fsck", f.d.path, NULL };

    f.d.no_space = true;
    assert_works(filesystem_ext4.check(&f.d, &err));
    assert_works(filesystem_run_ok(mark, "e2fsprogs", f.d.lock_fd, 60000, &err));
    assert_fails(filesystem_ext4.check(&f.d, &err), ERR_EXHAUSTED,
                 "the kernel met errors in the file system, and e2fsck can't repair them where its "
                 "writes may be lost");
    f.d.no_space = false;
    assert_works(filesystem_ext4.check(&f.d, &err));
    f.d.no_space = true;
    assert_works(filesystem_ext4.check(&f.d, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_made_and_checked), cmocka_unit_test(test_superblock),
        cmocka_unit_test(test_device_too_small), cmocka_unit_test(test_failure_says_why),
        cmocka_unit_test(test_unsafe_repair),    cmocka_unit_test(test_no_repair_without_space),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/node/fsfile.h"

#include "volume/fskind.h"

#define MAKE(bytes) fs_file_make(&filesystem_xfs, "/sbin/mkfs.xfs", bytes)

/* The smallest size that the controller lets through is one that mkfs makes. */
static void test_made_and_checked(void **state UNUSED)
{
    AUTO_FS_FILE struct fs_file f = MAKE(fs_kind_find("xfs")->size_min);

    assert_works(filesystem_xfs.check(&f.d, &err));
}

static void test_below_the_minimum(void **state UNUSED)
{
    AUTO_FS_FILE struct fs_file f = MAKE(MIB(300));
    struct error err = ERROR_INIT;

    assert_int_equal(ftruncate(f.d.fd, (off_t)(fs_kind_find("xfs")->size_min - MIB(1))), 0);
    assert_int_equal(filesystem_xfs.make(&f.d, &err), -1);
    assert_int_equal(err.code, ERR_INTERNAL);
}

static void test_superblock(void **state UNUSED)
{
    AUTO_FS_FILE struct fs_file f = MAKE(MIB(300));
    const unsigned char zeros[8] = { 0 }, huge[8] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

    fs_file_flip(&f, 0);
    fs_file_refused(&f, &filesystem_xfs, "superblock is not one");
    fs_file_flip(&f, 0);
    assert_works(filesystem_xfs.check(&f.d, &err));
    fs_file_put(&f, 8, huge, sizeof(huge)); /* blocks */
    fs_file_refused(&f, &filesystem_xfs, "superblock is not one");
    fs_file_put(&f, 4, zeros, 4); /* block size */
    fs_file_refused(&f, &filesystem_xfs, "superblock is not one");
    fs_file_put(&f, 4, huge, 4);
    fs_file_refused(&f, &filesystem_xfs, "superblock is not one");
}

static void test_device_too_small(void **state UNUSED)
{
    AUTO_FS_FILE struct fs_file f = MAKE(MIB(320));

    assert_int_equal(ftruncate(f.d.fd, (off_t)MIB(300)), 0);
    fs_file_refused(&f, &filesystem_xfs, "its device only 314572800");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_made_and_checked),
        cmocka_unit_test(test_below_the_minimum),
        cmocka_unit_test(test_superblock),
        cmocka_unit_test(test_device_too_small),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/node/fsfile.h"

#include "volume/fskind.h"

#define MAKE(bytes) fs_file_make(&filesystem_btrfs, "/sbin/mkfs.btrfs", bytes)

/* The smallest size that the controller lets through is one that mkfs makes. */
static void test_made_and_checked(void **state UNUSED)
{
    AUTO_FS_FILE struct fs_file f = MAKE(fs_kind_find("btrfs")->size_min);

    assert_works(filesystem_btrfs.check(&f.d, &err));
}

static void test_superblock(void **state UNUSED)
{
    AUTO_FS_FILE struct fs_file f = MAKE(MIB(128));
    const unsigned char two[8] = { 2 }, none[8] = { 0 };

    fs_file_flip(&f, 65536 + 0x40);
    fs_file_refused(&f, &filesystem_btrfs, "superblock is not one");
    fs_file_flip(&f, 65536 + 0x40);
    assert_works(filesystem_btrfs.check(&f.d, &err));
    fs_file_put(&f, 65536 + 0x88, two, sizeof(two));
    fs_file_refused(&f, &filesystem_btrfs, "spans 2 devices");
    fs_file_put(&f, 65536 + 0x88, none, sizeof(none));
    fs_file_refused(&f, &filesystem_btrfs, "spans 0 devices");
}

static void test_device_too_small(void **state UNUSED)
{
    AUTO_FS_FILE struct fs_file f = MAKE(MIB(128));

    assert_int_equal(ftruncate(f.d.fd, (off_t)MIB(120)), 0);
    fs_file_refused(&f, &filesystem_btrfs, "its device only 125829120");
}

/* What isn't a btrfs has no device of a btrfs. */
static void test_no_btrfs(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    uint64_t bytes = 0;
    dev_t dev = 7;
    int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(filesystem_btrfs.device(fd, &dev, &err), -1);
    assert_int_equal(dev, 7);
    assert_int_equal(filesystem_btrfs.size(NULL, fd, &bytes, &err), -1);
    assert_int_equal(filesystem_verify(&filesystem_btrfs, fd, 7, &err), -1);
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_made_and_checked),
        cmocka_unit_test(test_superblock),
        cmocka_unit_test(test_device_too_small),
        cmocka_unit_test(test_no_btrfs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

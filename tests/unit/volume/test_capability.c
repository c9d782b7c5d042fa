/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/capability.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <cmocka.h>

static const struct capability base = { .mode = CAPABILITY_SINGLE_NODE_WRITER, .fs_type = "" };

static int check(struct capability c, struct error *err)
{
    *err = (struct error)ERROR_INIT;
    return capability_check(&c, err);
}

static int check_flag(const char *flag, struct error *err)
{
    struct capability c = base;

    c.mount_flags = &flag;
    c.n_mount_flags = 1;
    return check(c, err);
}

static void test_modes(void **state UNUSED)
{
    static const struct {
        unsigned mode;
        bool supported, read_only;
        const char *name;
    } modes[] = {
        { 0, false, false, "UNKNOWN" },
        { 1, true, false, "SINGLE_NODE_WRITER" },
        { 2, true, true, "SINGLE_NODE_READER_ONLY" },
        { 3, true, true, "MULTI_NODE_READER_ONLY" },
        { 4, false, false, "MULTI_NODE_SINGLE_WRITER" },
        { 5, false, false, "MULTI_NODE_MULTI_WRITER" },
        { 6, true, false, "SINGLE_NODE_SINGLE_WRITER" },
        { 7, true, false, "SINGLE_NODE_MULTI_WRITER" },
        { 8, false, false, "UNKNOWN" },
        { 0xffffffff, false, false, "UNKNOWN" },
    };
    struct error err;

    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        struct capability c = base;

        c.mode = modes[i].mode;
        for (int block = 0; block < 2; block++) {
            c.block = block == 1;
            assert_int_equal(check(c, &err), modes[i].supported ? 0 : -1);
            if (!modes[i].supported)
                assert_int_equal(err.code, ERR_INVALID);
        }
        assert_int_equal(capability_mode_read_only(c.mode), modes[i].read_only);
        assert_string_equal(capability_mode_name(c.mode), modes[i].name);
    }
}

static void test_file_systems(void **state UNUSED)
{
    struct capability c = base;
    struct error err;

    assert_string_equal(capability_fs(&c), "ext4");
    c.fs_type = "ext4";
    assert_int_equal(check(c, &err), 0);
    c.fs_type = "xfs";
    assert_int_equal(check(c, &err), 0);
    assert_string_equal(capability_fs(&c), "xfs");
    c.fs_type = "btrfs";
    assert_int_equal(check(c, &err), 0);
    assert_string_equal(capability_fs(&c), "btrfs");
    c.fs_type = "none"; /* the record's word for raw block is no file system */
    assert_int_equal(check(c, &err), -1);
    c.fs_type = "vfat";
    assert_int_equal(check(c, &err), -1);
    assert_non_null(strstr(err.msg, "'vfat'"));
    c.fs_type = "EXT4";
    assert_int_equal(check(c, &err), -1);
    c = base;
    c.block = true;
    assert_string_equal(capability_fs(&c), "none");
    c.mount_group = "1000";
    assert_int_equal(check(c, &err), -1);
    c = base;
    c.mount_group = "";
    assert_int_equal(check(c, &err), 0);
    c.mount_group = "1000";
    assert_int_equal(check(c, &err), -1);
}

static void test_flags(void **state UNUSED)
{
    static const char *const good[] = { "noatime", "nodiratime", "relatime", "lazytime",
                                        "sync",    "dirsync",    "ro",       "nosuid",
                                        "nodev",   "noexec",     "commit=1", "commit=300" };
    static const char *const bad[] = {
        "",         "discard",    "suid",      "dev",           "exec",           "rw",
        "bind",     "nobarrier",  "remount",   "context=x",     "data=writeback", "commit=",
        "commit=0", "commit=301", "commit=-1", "commit=1,exec", "noatime,dev",    " ro"
    };
    struct error err;

    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_int_equal(check_flag(good[i], &err), 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(check_flag(bad[i], &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
}

/* Each file system takes its own options and no other's. */
static void test_own_options(void **state UNUSED)
{
    static const struct {
        const char *fs, *flag, *data; /* data NULL: refused */
    } cases[] = {
        { "ext4", "commit=300", "commit=300" },
        { "btrfs", "commit=300", "commit=300" },
        { "xfs", "commit=300", NULL },
        { "btrfs", "compress=zstd", "compress=zstd" },
        { "btrfs", "compress=lzo", "compress=lzo" },
        { "btrfs", "compress=zlib", "compress=zlib" },
        { "btrfs", "compress", NULL },
        { "btrfs", "compress=", NULL },
        { "btrfs", "compress=no", NULL },
        { "btrfs", "compress=zstd:15", NULL },
        { "btrfs", "compress=zstd,device=/dev/x", NULL },
        { "ext4", "compress=zstd", NULL },
        { "btrfs", "subvolid=7", NULL },
        { "btrfs", "device=/dev/x", NULL },
        { "btrfs", "degraded", NULL },
        { "xfs", "nouuid", NULL },
        { "xfs", "norecovery", NULL },
        { "xfs", "logdev=/dev/x", NULL },
        { "ext4", "journal_path=/dev/x", NULL },
        { "xfs", "lazytime", "" },
        { "btrfs", "sync", "" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct capability c = base;
        struct capability_mount m;
        struct error err = ERROR_INIT;

        c.fs_type = cases[i].fs;
        c.mount_flags = &cases[i].flag;
        c.n_mount_flags = 1;
        if (cases[i].data == NULL) {
            assert_int_equal(check(c, &err), -1);
            assert_int_equal(err.code, ERR_INVALID);
            assert_non_null(strstr(err.msg, cases[i].fs));
            continue;
        }
        assert_int_equal(check(c, &err), 0);
        assert_int_equal(capability_mount_options(&c, cases[i].fs, &m, &err), 0);
        assert_string_equal(m.data, cases[i].data);
    }
}

/* Mount flags may be sensitive: a refusal doesn't repeat them. */
static void test_unknown_flags_are_not_repeated(void **state UNUSED)
{
    struct error err;

    assert_int_equal(check_flag("password=hunter2", &err), -1);
    assert_null(strstr(err.msg, "hunter2"));
    assert_non_null(strstr(err.msg, "number 1"));
}

static void test_mount_options(void **state UNUSED)
{
    static const char *const flags[] = { "noatime", "ro", "commit=5", "commit=30" };
    static const char *const both[] = { "compress=zstd", "compress=lzo", "commit=30" };
    struct capability c = base;
    struct capability_mount m;
    struct error err = ERROR_INIT;

    assert_int_equal(capability_mount_options(&c, "ext4", &m, &err), 0);
    assert_int_equal(m.flags, 0);
    assert_string_equal(m.data, "");
    c.mount_flags = flags;
    c.n_mount_flags = ARRAY_SIZE(flags);
    assert_int_equal(capability_mount_options(&c, "ext4", &m, &err), 0);
    assert_int_equal(m.flags, MS_NOATIME | MS_RDONLY);
    assert_string_equal(m.data, "commit=30"); /* the last one counts */
    assert_int_equal(capability_mount_options(&c, "xfs", &m, &err), -1);
    assert_string_equal(m.data, "commit=30");
    c.mount_flags = both;
    c.n_mount_flags = ARRAY_SIZE(both);
    assert_int_equal(capability_mount_options(&c, "btrfs", &m, &err), 0);
    assert_string_equal(m.data, "commit=30,compress=lzo");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_modes),         cmocka_unit_test(test_file_systems),
        cmocka_unit_test(test_flags),         cmocka_unit_test(test_unknown_flags_are_not_repeated),
        cmocka_unit_test(test_mount_options), cmocka_unit_test(test_own_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/mount_point.h"

#include "tests/support/tmpdir.h"
#include "tests/support/unit.h"

#include <sys/stat.h>
#include <unistd.h>

static bool mounted(const char *path)
{
    bool r = false;
    assert_works(mount_point_at(path, &r, &err));
    return r;
}

static void test_mounted(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    tmpdir_write(&t, "file", "x", 1);
    assert_int_equal(symlink("/proc", tmpdir_path(&t, "link")), 0);
    assert_true(mounted("/proc"));
    assert_false(mounted("/proc/self"));
    assert_false(mounted(t.path));
    assert_false(mounted(tmpdir_path(&t, "file")));
    assert_false(mounted(tmpdir_path(&t, "missing")));
    assert_false(mounted(tmpdir_path(&t, "file/below")));
    assert_false(mounted(tmpdir_path(&t, "link")));
}

static void expect(const char *text, const char *want)
{
    char path[256];
    assert_works(mount_point_path(text, path, sizeof(path), &err));
    assert_string_equal(path, want);
}

static void test_paths(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    assert_int_equal(mkdir(tmpdir_path(&t, "dir"), 0700), 0);
    assert_int_equal(symlink("dir", tmpdir_path(&t, "link")), 0);
    expect(tmpdir_path(&t, "dir"), tmpdir_path(&t, "dir"));
    expect(tmpdir_path(&t, "link"), tmpdir_path(&t, "dir"));
    expect(tmpdir_path(&t, "link/new"), tmpdir_path(&t, "dir/new"));
    expect(tmpdir_path(&t, "dir/../dir/new//"), tmpdir_path(&t, "dir/new"));
    expect("/new", "/new");
    assert_int_equal(chdir(t.path), 0);
    expect("new", tmpdir_path(&t, "new"));
    expect("dir/./new", tmpdir_path(&t, "dir/new"));
    assert_int_equal(chdir("/"), 0);
}

static void test_refused(void **state UNUSED)
{
    char path[32], small[8];
    assert_fails(mount_point_path("/", path, sizeof(path), &err), ERR_INVALID,
                 "the root directory can't be a mount point of a volume");
    assert_int_equal(mount_point_path("/no/such/place", path, sizeof(path), NULL), -1);
    assert_int_equal(mount_point_path("/no/..", path, sizeof(path), NULL), -1);
    assert_int_equal(mount_point_path("", path, sizeof(path), NULL), -1);
    assert_fails(mount_point_path("/usr/bin", small, sizeof(small), &err), ERR_INVALID,
                 "the path '/usr/bin' is too long");
    assert_fails(mount_point_path("/usr/new", small, sizeof(small), &err), ERR_INVALID,
                 "the path '/usr/new' is too long");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mounted),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

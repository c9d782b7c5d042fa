/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/mountinfo.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct mount_table parsed(const char *text)
{
    struct mount_table t = { .items = NULL, .n = 0 };
    struct error err = ERROR_INIT;

    if (mount_table_parse(text, strlen(text), &t, &err) < 0)
        fail_msg("'%s' was refused: %s", text, err.msg);
    return t;
}

static void test_one_line(void **state UNUSED)
{
    AUTO_MOUNT_TABLE struct mount_table t =
        parsed("36 35 253:7 /sub /mnt/a rw,noatime master:1 - ext4 /dev/x rw,errors=continue\n");

    assert_int_equal(t.n, 1);
    assert_int_equal(t.items[0].id, 36);
    assert_int_equal(t.items[0].parent, 35);
    assert_true(t.items[0].dev == makedev(253, 7));
    assert_string_equal(t.items[0].root, "/sub");
    assert_string_equal(t.items[0].point, "/mnt/a");
    assert_string_equal(t.items[0].fs_type, "ext4");
    assert_string_equal(t.items[0].source, "/dev/x");
    assert_false(t.items[0].read_only);
    assert_false(t.items[0].no_symlinks);
}

/* Of the mount, not of the super block, which has no such option. */
static void test_no_symlinks(void **state UNUSED)
{
    AUTO_MOUNT_TABLE struct mount_table t =
        parsed("1 0 253:7 / /a rw,nosuid,nodev,relatime,nosymfollow - ext4 /dev/x rw\n"
               "2 0 253:7 / /b rw,nosuid - ext4 /dev/x rw,nosymfollow\n");

    assert_true(t.items[0].no_symlinks);
    assert_false(t.items[1].no_symlinks);
}

static void test_big_device_number(void **state UNUSED)
{
    AUTO_MOUNT_TABLE struct mount_table t = parsed("1 0 4095:1048575 / /a rw - ext4 /dev/x rw");

    assert_true(t.items[0].dev == makedev(4095, 1048575));
}

static void test_escapes(void **state UNUSED)
{
    AUTO_MOUNT_TABLE struct mount_table t =
        parsed("1 0 0:9 /r\\134x /a\\040b\\011c\\012d\\134e\\040 rw - fuse.a\\040b none rw\n");

    assert_string_equal(t.items[0].root, "/r\\x");
    assert_string_equal(t.items[0].point, "/a b\tc\nd\\e ");
    assert_string_equal(t.items[0].fs_type, "fuse.a b");
    assert_non_null(mount_table_at(&t, "/a b\tc\nd\\e "));
    assert_null(mount_table_at(&t, "/a\\040b\\011c\\012d\\134e\\040"));
}

static void test_backslash_that_is_no_escape(void **state UNUSED)
{
    AUTO_MOUNT_TABLE struct mount_table t =
        parsed("1 0 0:9 /\\04 /a\\048\\x40 rw - ext4 none rw\n");

    assert_string_equal(t.items[0].root, "/\\04");
    assert_string_equal(t.items[0].point, "/a\\048\\x40");
}

static void test_optional_fields(void **state UNUSED)
{
    static const char *const fields[] = {
        "",
        "shared:1 ",
        "shared:1 master:2 ",
        "master:2 propagate_from:3 unbindable ",
        "a b c d e f g h ",
    };

    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        char line[256];
        (void)snprintf(line, sizeof(line), "1 0 8:1 / /a rw %s- ext4 /dev/x ro", fields[i]);
        AUTO_MOUNT_TABLE struct mount_table t = parsed(line);
        assert_string_equal(t.items[0].fs_type, "ext4");
        assert_true(t.items[0].read_only);
    }
}

static void test_read_only(void **state UNUSED)
{
    static const struct {
        const char *line;
        bool want, failed;
    } cases[] = {
        { "1 0 8:1 / /a rw - ext4 /dev/x rw", false, false },
        { "1 0 8:1 / /a ro - ext4 /dev/x rw", true, false },
        { "1 0 8:1 / /a ro - ext4 /dev/x ro", true, false },
        { "1 0 8:1 / /a rw - ext4 /dev/x ro", true, true },
        { "1 0 8:1 / /a rw,nosuid,ro,nodev - ext4 /dev/x rw", true, false },
        { "1 0 8:1 / /a rw - ext4 /dev/x rw,errors=remount-ro", false, false },
        { "1 0 8:1 / /a rw - ext4 /dev/x rw,rox,xro", false, false },
        { "1 0 8:1 / /a rw ro - ext4 ro rw", false,
          false }, /* optional field and source of that name */
        { "1 0 8:1 / /a rw - tmpfs  ro,size=4k", true, true }, /* an empty source */
        { "1 0 8:1 / /a rw - tmpfs  rw,size=4k", false, false },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_MOUNT_TABLE struct mount_table t = parsed(cases[i].line);
        if (t.items[0].read_only != cases[i].want)
            fail_msg("'%s': read-only is %d", cases[i].line, t.items[0].read_only);
        if (t.items[0].failed != cases[i].failed)
            fail_msg("'%s': failed is %d", cases[i].line, t.items[0].failed);
    }
}

static void test_empty(void **state UNUSED)
{
    AUTO_MOUNT_TABLE struct mount_table t = parsed("");

    assert_int_equal(t.n, 0);
    assert_null(mount_table_at(&t, "/"));
}

static void test_malformed(void **state UNUSED)
{
    static const char *const lines[] = {
        "\n",
        " ",
        "1 0 8:1 / /a rw",
        "1 0 8:1 / /a rw -",
        "1 0 8:1 / /a rw - ext4",
        "1 0 8:1 / /a rw - ext4 /dev/x",
        "1 0 8:1 / /a rw shared:1 ext4 /dev/x rw",
        "1 0 8:1 / /a - ext4 /dev/x rw",
        "1 0 8 / /a rw - ext4 /dev/x rw",
        "1 0 8: / /a rw - ext4 /dev/x rw",
        "1 0 :1 / /a rw - ext4 /dev/x rw",
        "1 0 8:1:2 / /a rw - ext4 /dev/x rw",
        "1 0 8:1x / /a rw - ext4 /dev/x rw",
        "1 0 -8:1 / /a rw - ext4 /dev/x rw",
        "1 0 4294967296:1 / /a rw - ext4 /dev/x rw",
        "1 0 8:99999999999999999999999 / /a rw - ext4 /dev/x rw",
        "x 0 8:1 / /a rw - ext4 /dev/x rw",
        "1x 0 8:1 / /a rw - ext4 /dev/x rw",
        "1 x 8:1 / /a rw - ext4 /dev/x rw",
        " 1 0 8:1 / /a rw - ext4 /dev/x rw",
        "1 0 8:1  /a rw - ext4 /dev/x rw",
        "1 0 8:1 /  rw - ext4 /dev/x rw",
        "1 0 8:1 / /a rw -  /dev/x rw",
        "1 0 8:1 / /a rw - ext4 /dev/x rw\n\n",
        "1 0 8:1 / /a rw - ext4 /dev/x rw\ngarbage\n",
    };

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        struct mount_table t = { .items = NULL, .n = 77 };
        struct error err = ERROR_INIT;
        if (mount_table_parse(lines[i], strlen(lines[i]), &t, &err) == 0)
            fail_msg("'%s' was accepted", lines[i]);
        assert_int_equal(err.code, ERR_INTERNAL);
        assert_non_null(strstr(err.msg, "mountinfo has a line that isn't one"));
        assert_int_equal(t.n, 77);
    }
}

/* The parser gets a length, not a NUL. */
static void test_stops_at_length(void **state UNUSED)
{
    const char text[] = "1 0 8:1 / /a rw - ext4 /dev/x rw\n1 0 8:1 / /b rw - ext4 /dev/x rw\n";
    struct mount_table t = { .items = NULL, .n = 0 };
    struct error err = ERROR_INIT;

    assert_int_equal(mount_table_parse(text, strlen(text) / 2, &t, &err), 0);
    assert_int_equal(t.n, 1);
    assert_string_equal(t.items[0].point, "/a");
    mount_table_release(&t);
}

static void test_many_lines(void **state UNUSED)
{
    enum { LINES = 1000 };
    static char text[LINES * 64];
    size_t at = 0;

    for (int i = 0; i < LINES; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at,
                               "%d 1 8:%d / /m/%d rw - ext4 /dev/x rw\n", i + 2, i, i);
    AUTO_MOUNT_TABLE struct mount_table t = parsed(text);
    assert_int_equal(t.n, LINES);
    for (unsigned i = 0; i < LINES; i++)
        assert_true(t.items[i].dev == makedev(8, i));
    assert_true(mount_table_at(&t, "/m/999")->dev == makedev(8, 999));
    assert_null(mount_table_at(&t, "/m/99/"));
    assert_null(mount_table_at(&t, "/m"));
}

/* The topmost mount at /a is the one on 8:3 in each of them, whatever the order of the lines. */
static void test_topmost(void **state UNUSED)
{
    static const char *const tables[] = {
        "2 1 8:1 / /a rw - ext4 x rw\n3 2 8:2 / /a rw - ext4 x rw\n4 3 8:3 / /a rw - ext4 x rw\n",
        "2 3 8:3 / /a rw - ext4 x rw\n3 4 8:2 / /a rw - ext4 x rw\n4 1 8:1 / /a rw - ext4 x rw\n",
        "2 1 8:1 / /a rw - ext4 x rw\n3 4 8:3 / /a rw - ext4 x rw\n4 2 8:2 / /a rw - ext4 x rw\n",
        "2 3 8:3 / /a rw - ext4 x rw\n3 1 8:2 / /a rw - ext4 x rw\n5 2 8:9 / /a/b rw - ext4 x rw\n",
        "2 2 8:3 / /a rw - ext4 x rw\n",
        /* the first one at /a lies below another mount at / */
        "2 1 8:1 / /a rw - ext4 x rw\n3 1 8:2 / / rw - ext4 x rw\n4 3 8:3 / /a rw - ext4 x rw\n",
    };

    for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
        AUTO_MOUNT_TABLE struct mount_table t = parsed(tables[i]);
        const struct mount_entry *e = mount_table_at(&t, "/a");
        assert_non_null(e);
        if (e->dev != makedev(8, 3))
            fail_msg("table %zu: the mount on 8:%u was taken", i, minor(e->dev));
    }
}

static void test_match(void **state UNUSED)
{
    AUTO_MOUNT_TABLE struct mount_table t =
        parsed("2 1 253:4 / /a rw - ext4 x rw\n3 1 0:5 /null /dev/null rw - devtmpfs x rw\n");

    assert_int_equal(mount_match(NULL, makedev(253, 4)), MOUNT_NONE);
    assert_int_equal(mount_match(&t.items[0], makedev(253, 4)), MOUNT_OURS);
    assert_int_equal(mount_match(&t.items[0], makedev(253, 5)), MOUNT_FOREIGN);
    /* a character device with the mapping's number is no block device */
    assert_int_equal(mount_match(&t.items[1], makedev(1, 3)), MOUNT_FOREIGN);
}

/* Of btrfs the source counts, since its number is no device's; of the others it never does. A
 * source that leads nowhere makes the mount point be asked, and no btrfs is there. */
static void test_match_btrfs(void **state UNUSED)
{
    AUTO_MOUNT_TABLE struct mount_table t =
        parsed("2 1 0:44 / /a rw - btrfs /dev/null rw\n3 1 0:45 / /proc rw - btrfs /nowhere rw\n"
               "4 1 0:46 / /nowhere rw - btrfs /nowhere rw\n");

    for (size_t i = 0; i < t.n; i++) {
        assert_int_equal(mount_match(&t.items[i], makedev(253, 4)), MOUNT_FOREIGN);
        assert_false(mount_lies_on(&t.items[i], makedev(253, 4)));
        assert_false(mount_lies_on(&t.items[i], makedev(1, 3))); /* no block device */
    }
}

static void test_load(void **state UNUSED)
{
    AUTO_MOUNT_TABLE struct mount_table t = { .items = NULL, .n = 0 };
    struct error err = ERROR_INIT;
    struct stat st;

    assert_int_equal(mount_table_load(&t, &err), 0);
    assert_int_equal(stat("/proc", &st), 0);
    const struct mount_entry *e = mount_table_at(&t, "/proc");
    assert_non_null(e);
    assert_string_equal(e->fs_type, "proc");
    assert_true(e->dev == st.st_dev);
}

static void test_node_name(void **state UNUSED)
{
    AUTO_MOUNT_TABLE struct mount_table t =
        parsed("2 1 0:5 / /dev rw - devtmpfs x rw\n3 1 0:5 /null /dev/null rw - devtmpfs x rw\n"
               "4 1 8:1 /sub/file /file rw - ext4 x rw\n");
    char name[64] = "untouched";
    dev_t dev = 77;

    for (size_t i = 0; i < t.n; i++) /* none is a block device's node */
        assert_false(mount_node_name(&t.items[i], name, sizeof(name), &dev));
    assert_string_equal(name, "untouched");
    assert_true(dev == 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_line),
        cmocka_unit_test(test_no_symlinks),
        cmocka_unit_test(test_big_device_number),
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_backslash_that_is_no_escape),
        cmocka_unit_test(test_optional_fields),
        cmocka_unit_test(test_read_only),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_stops_at_length),
        cmocka_unit_test(test_many_lines),
        cmocka_unit_test(test_topmost),
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_match_btrfs),
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_node_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

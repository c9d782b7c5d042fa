/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/blockdev.h"

#include "tests/support/nofile.h"
#include "tests/support/unit.h"

#include <errno.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static void test_text(void **state UNUSED)
{
    char text[DEV_TEXT_SIZE];

    blockdev_text(makedev(253, 7), text);
    assert_string_equal(text, "253:7");
}

static void test_what_is_not_there(void **state UNUSED)
{
    struct dm_device d = { .size = 77 };
    char line[64];

    assert_false(blockdev_present(makedev(4095, 1048575)));
    assert_false(blockdev_has_holders(makedev(4095, 1048575)));
    assert_fails(blockdev_line(makedev(4095, 1048575), "dm/name", line, sizeof(line), &err),
                 ERR_NOT_FOUND,
                 "open '/sys/dev/block/4095:1048575/dm/name': No such file or directory");
    assert_fails(dm_device_find("coffer-no-such", &d, &err), ERR_NOT_FOUND,
                 "there is no mapping 'coffer-no-such'");
    assert_int_equal(d.size, 77);
}

/* What says that a device isn't there, and what says nothing. */
static void test_gone(void **state UNUSED)
{
    static const int gone[] = { ENOENT, ENODEV, EINVAL, EIO };
    static const int unknown[] = { EACCES, ENOMEM, EMFILE, ENFILE, 0 };
    struct error e = { .code = ERR_INTERNAL };

    for (size_t i = 0; i < ARRAY_SIZE(gone); i++) {
        e.sys_errno = gone[i];
        assert_int_equal(blockdev_is_gone(&e), access("/sys/dev/block", F_OK) == 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
        e.sys_errno = unknown[i];
        assert_false(blockdev_is_gone(&e));
    }
}

/* Nobody can say: that is neither "no mapping" nor "no holder". */
static void test_no_descriptors(void **state UNUSED)
{
    struct dm_device d = { .size = 77 };
    struct error err = ERROR_INIT;

    nofile_arm(0);
    int r = dm_device_find("coffer-no-such", &d, &err);
    bool holders = blockdev_has_holders(makedev(4095, 1048575));
    nofile_disarm();
    assert_int_equal(r, -1);
    assert_int_equal(err.code, ERR_EXHAUSTED);
    assert_true(holders);
}

static bool count(void *ctx, const char *name, dev_t dev)
{
    size_t *n = ctx;

    assert_true(name[0] != '\0' && dev != 0);
    return ++*n < 1;
}

/* How many there are is this machine's; that it can be looked through isn't. */
static void test_each(void **state UNUSED)
{
    size_t n = 0;

    if (access("/sys/block", R_OK) == 0)
        assert_works(dm_device_each(count, &n, &err));
    assert_true(n <= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text), cmocka_unit_test(test_what_is_not_there),
        cmocka_unit_test(test_gone), cmocka_unit_test(test_no_descriptors),
        cmocka_unit_test(test_each),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

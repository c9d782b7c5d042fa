/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/blockdev.h"

#include "tests/support/unit.h"

#include <sys/sysmacros.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_what_is_not_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

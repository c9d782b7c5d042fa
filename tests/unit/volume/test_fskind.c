/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/unit.h"

#include "volume/fskind.h"
#include "volume/geometry.h"

static void test_find(void **state UNUSED)
{
    static const char *const names[] = { "ext4", "xfs", "btrfs", "none" };
    static const char *const unknown[] = { "", "ext3", "EXT4", "xfs ", "vfat" };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        assert_string_equal(fs_kind_find(names[i])->name, names[i]);
    for (size_t i = 0; i < ARRAY_SIZE(unknown); i++)
        assert_null(fs_kind_find(unknown[i]));
    assert_non_null(fs_kind_find(FS_KIND_DEFAULT));
    assert_non_null(fs_kind_find(FS_KIND_NONE));
}

/* A volume of exactly that size must be possible: sizes are whole units, and the record has room
 * for the name. */
static void test_minima(void **state UNUSED)
{
    static const char *const names[] = { "ext4", "xfs", "btrfs", "none" };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        const struct fs_kind *k = fs_kind_find(names[i]);

        assert_true(k->size_min >= GEOMETRY_SIZE_MIN);
        assert_int_equal(k->size_min % GEOMETRY_ROUND, 0);
        assert_true(strlen(k->name) < 16);
        assert_true(k->n_options <= FS_OPTIONS_MAX);
    }
    assert_int_equal(fs_kind_find("xfs")->size_min, MIB(300));
    assert_int_equal(fs_kind_find("btrfs")->size_min, MIB(256));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_minima),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/volume.h"

#include "tests/support/tmpdir.h"
#include "tests/support/unit.h"

#include <sys/stat.h>

#define UUID "123e4567e89b42d3a456426614174000"
#define ID   "0123456789abcdef0123456789abcdef"

static void test_dm_uuids(void **state UNUSED)
{
    static const char *const others[] = {
        "",
        "CRYPT-LUKS2-",
        "CRYPT-LUKS2-" UUID,
        "CRYPT-LUKS2-" UUID "-luks-x",
        "CRYPT-LUKS2-" UUID "-coffer",
        "CRYPT-LUKS1-" UUID "-coffer-x",
        "CRYPT-PLAIN-coffer-x",
        "LVM-" UUID "-coffer-x",
        "TEMP-CRYPT-LUKS2-" UUID "-coffer-x",
        "CRYPT-LUKS2-123E4567e89b42d3a456426614174000-coffer-x",
        "CRYPT-LUKS2-luks-" UUID "-coffer-x",
    };
    assert_true(volume_dm_uuid_ours("CRYPT-LUKS2-" UUID "-coffer-0a1b-3f0c12ab"));
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        if (volume_dm_uuid_ours(others[i]))
            fail_msg("'%s' is taken for one of Coffer's", others[i]);
    }
}

static void test_what_is_no_mount(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    char sentence[700];
    int fd = -1;

    assert_int_equal(mkdir(tmpdir_path(&t, ID), 0700), 0);
    assert_int_equal(mkdir(tmpdir_path(&t, ID "/volume"), 0700), 0);
    (void)snprintf(sentence, sizeof(sentence), "no volume is mounted at '%s'",
                   tmpdir_path(&t, ID "/volume"));
    assert_fails(vm_volume_open(t.path, ID, true, &fd, &err), ERR_PRECONDITION, sentence);
    assert_int_equal(fd, -1);
}

static void test_what_is_not_there(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    struct error err = ERROR_INIT;
    int fd = -1;

    assert_int_equal(vm_volume_open(t.path, ID, true, &fd, &err), -1);
    assert_int_equal(err.code, ERR_PRECONDITION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dm_uuids),
        cmocka_unit_test(test_what_is_no_mount),
        cmocka_unit_test(test_what_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

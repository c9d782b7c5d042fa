/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/mounts.h"

#include "tests/support/tmpdir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void test_remove_what_is_not_there(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir dir = tmpdir_make();
    struct error err = ERROR_INIT;

    assert_int_equal(mount_remove(dir.path, &err), -1);
    assert_non_null(strstr(err.msg, dir.path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_remove_what_is_not_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

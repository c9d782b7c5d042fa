/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/namespace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void test_status_lines(void **state UNUSED)
{
    assert_true(namespace_is_ours("Name:\tx\nTgid:\t7\nNStgid:\t7\nNSpid:\t7\nNSpgid:\t7\n"));
    assert_false(namespace_is_ours("Name:\tx\nNSpid:\t4711\t7\nNSpgid:\t7\n"));
    assert_false(namespace_is_ours("Name:\tx\nNSpid:\t\n"));
    assert_false(namespace_is_ours("Name:\tx\n"));
    assert_false(namespace_is_ours("Name:\tNSpid:\t7\n"));
    assert_false(namespace_is_ours("Name:\tx\nNSpid:\t7"));
    assert_false(namespace_is_ours(""));
}

static void test_nobody_listens(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    assert_int_equal(namespace_check("/nonexistent/admin.sock", &err), -1);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_string_equal(
        err.msg, "connect to coffer-node at '/nonexistent/admin.sock': No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_status_lines),
                                        cmocka_unit_test(test_nobody_listens) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

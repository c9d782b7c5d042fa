/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "common/parse.h"
#include "csi/status.h"

static void maps_every_code_there_and_back(void **state)
{
    for (int code = ERR_OK + 1; code < ERR_CODE_COUNT; code++) {
        int status = status_from_error((enum error_code)code);
        assert_in_range(status, 1, 16);
        assert_int_equal(status_to_error(status), code);
    }
    assert_int_equal(status_from_error(ERR_INVALID), 3);
    assert_int_equal(status_from_error(ERR_ABORTED), 10);
    assert_int_equal(status_from_error(ERR_UNAUTHENTICATED), 16);
}

static void a_failure_is_never_success(void **state)
{
    assert_int_equal(status_from_error(ERR_OK), 13);
    assert_int_equal(status_from_error(ERR_CODE_COUNT), 13);
    assert_int_equal(status_to_error(2), ERR_INTERNAL); /* UNKNOWN */
    assert_int_equal(status_to_error(99), ERR_INTERNAL);
}

static void the_text_is_never_empty_and_valid_utf8(void **state)
{
    char buf[512];
    struct error err = { .code = ERR_ABORTED, .msg = "" };
    assert_string_equal(status_text(&err, buf, sizeof(buf)), "ABORTED");
    (void)error_set(&err, ERR_NOT_FOUND, "no volume '\xc3\xa4'");
    assert_string_equal(status_text(&err, buf, sizeof(buf)), "no volume '\xc3\xa4'");
    memcpy(err.msg, "cut \xc3", 6);
    assert_string_equal(status_text(&err, buf, sizeof(buf)), "cut ?");
    assert_true(utf8_valid(buf, strlen(buf)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_every_code_there_and_back),
        cmocka_unit_test(a_failure_is_never_success),
        cmocka_unit_test(the_text_is_never_empty_and_valid_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* unit.h: cmocka with the headers it needs, and what the unit tests share. */
#ifndef COFFER_TESTS_SUPPORT_UNIT_H
#define COFFER_TESTS_SUPPORT_UNIT_H

#include "common/base.h"
#include "common/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* A call must fail with this code and exactly this sentence. */
#define assert_fails(call, expected_code, sentence)  \
    do {                                             \
        struct error err = ERROR_INIT;               \
        assert_int_equal((call), -1);                \
        assert_string_equal(err.msg, (sentence));    \
        assert_int_equal(err.code, (expected_code)); \
    } while (0)

/* A call must work; shows the sentence when it doesn't. */
#define assert_works(call)                      \
    do {                                        \
        struct error err = ERROR_INIT;          \
        if ((call) != 0)                        \
            fail_msg("%s: %s", #call, err.msg); \
    } while (0)

#endif

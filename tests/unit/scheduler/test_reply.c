/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/reply.h"

#include "tests/support/unit.h"

static void test_errors(void **state UNUSED)
{
    static const struct {
        enum error_code code;
        unsigned int status;
        const char *name;
    } cases[] = {
        { ERR_INVALID, 400, "invalid" },           { ERR_UNAUTHENTICATED, 401, "unauthenticated" },
        { ERR_PERMISSION, 403, "forbidden" },      { ERR_NOT_FOUND, 404, "not_found" },
        { ERR_EXISTS, 409, "conflict" },           { ERR_ABORTED, 409, "conflict" },
        { ERR_PRECONDITION, 412, "precondition" }, { ERR_INTERNAL, 500, "internal" },
        { ERR_DATA_LOSS, 500, "internal" },        { ERR_UNIMPLEMENTED, 501, "unimplemented" },
        { ERR_UNAVAILABLE, 503, "unavailable" },   { ERR_DEADLINE, 504, "deadline" },
        { ERR_EXHAUSTED, 507, "no_room" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_REPLY struct reply r = REPLY_INIT;
        struct error err = ERROR_INIT;
        char want[100];

        (void)error_set(&err, cases[i].code, "so \"it\" is");
        reply_error(&r, &err);
        (void)snprintf(want, sizeof(want),
                       "{\"error\":{\"code\":\"%s\",\"message\":\"so \\\"it\\\" is\"}}",
                       cases[i].name);
        assert_int_equal(r.status, cases[i].status);
        assert_string_equal(r.body, want);
        assert_int_equal(r.retry_after, r.status == 503 || r.status == 504 ? 2 : 0);
    }
}

static void test_refusals(void **state UNUSED)
{
    AUTO_REPLY struct reply r = REPLY_INIT;

    reply_refuse(&r, 413, "longer than %u", 5u);
    assert_int_equal(r.status, 413);
    assert_string_equal(r.body,
                        "{\"error\":{\"code\":\"too_large\",\"message\":\"longer than 5\"}}");
    reply_refuse(&r, 429, "x");
    assert_int_equal(r.retry_after, 5);
    reply_constant(&r, "text/plain", "constant", 8); /* what was there is freed */
    assert_int_equal(r.status, 200);
    reply_json(&r, 500, NULL);
    assert_int_equal(r.status, 500);
    assert_string_equal(r.body,
                        "{\"error\":{\"code\":\"internal\",\"message\":\"out of memory\"}}\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

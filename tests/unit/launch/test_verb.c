/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/verb.h"

#include "tests/support/unit.h"

#define ID "0123456789abcdef0123456789abcdef"

static int decode(const char *text, const struct verb **verb, struct request *q, struct error *err)
{
    return launch_request_decode(text, strlen(text), verb, q, err);
}

static void test_each_verb(void **state UNUSED)
{
    static const struct {
        const char *text, *verb, *id;
        uint64_t grace_ms;
    } rows[] = {
        { "{\"verb\":\"start\",\"id\":\"" ID "\"}", "start", ID, 0 },
        { "{\"verb\":\"stop\",\"id\":\"" ID "\",\"grace_ms\":600000}", "stop", ID, 600000 },
        { "{\"verb\":\"list\"}", "list", "", 0 },
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct verb *verb = NULL;
        struct request q;
        assert_works(decode(rows[i].text, &verb, &q, &err));
        assert_string_equal(verb->name, rows[i].verb);
        assert_string_equal(q.id, rows[i].id);
        assert_int_equal(q.grace_ms, rows[i].grace_ms);
    }
}

static void test_what_is_wrong_is_named(void **state UNUSED)
{
    static const struct {
        const char *text, *sentence;
    } rows[] = {
        { "{}", "request: field 'verb' is missing" },
        { "{\"verb\":\"run\"}", "request: field 'verb' must be start, stop or list" },
        { "{\"verb\":\"start\"}", "request: field 'id' is missing" },
        { "{\"verb\":\"start\",\"id\":\"../x\"}",
          "request: field 'id' must be 32 lower-case hex digits" },
        { "{\"verb\":\"start\",\"id\":\"0123456789ABCDEF0123456789ABCDEF\"}",
          "request: field 'id' must be 32 lower-case hex digits" },
        { "{\"verb\":\"stop\",\"id\":\"" ID "\",\"grace_ms\":600001}",
          "request: field 'grace_ms' must be at most 600000" },
        { "{\"verb\":\"list\",\"id\":\"" ID "\"}", "request: unknown field 'id'" },
        { "{\"verb\":\"start\",\"id\":\"" ID "\",\"command\":[\"/bin/sh\"]}",
          "request: unknown field 'command'" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct verb *verb = NULL;
        struct request q;
        assert_fails(decode(rows[i].text, &verb, &q, &err), ERR_INVALID, rows[i].sentence);
        assert_null(verb);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_verb),
        cmocka_unit_test(test_what_is_wrong_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

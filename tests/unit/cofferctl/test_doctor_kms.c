/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/doctor.h"

#include "common/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* Exactly one line, in that state, with these words and this thing to type. */
static void expect(const char *kms, const char *state, const char *word, const char *fix)
{
    AUTO_JSON json_t *list = json_own(kms);
    AUTO_JSON json_t *rows = json_array();
    struct findings f = { .rows = rows, .check = "coffer-keyd" };

    assert_non_null(list);
    doctor_kms(NULL, list, &f);
    assert_int_equal(json_array_size(rows), 1);
    const json_t *row = json_array_get(rows, 0);
    assert_string_equal(json_string_value(json_object_get(row, "state")), state);
    assert_non_null(strstr(json_string_value(json_object_get(row, "found")), word));
    assert_string_equal(json_string_value(json_object_get(row, "fix")), fix);
}

#define SERVICE(breaker, token, refusal, test, test_refusal)                                 \
    "[{\"name\":\"v\",\"kind\":\"transit\",\"insecure\":false,\"service\":{\"addresses\":"   \
    "[\"vault:8200\"],\"breaker\":\"" breaker "\",\"method\":\"approle\",\"token\":\"" token \
    "\",\"token_age_s\":60,\"token_left_s\":3540,\"refusal\":\"" refusal                     \
    "\",\"self_test\":\"" test "\",\"self_test_refusal\":\"" test_refusal "\"}}]"
#define CHECK "cofferctl vault check --kms v"

static void test_fine(void **state UNUSED)
{
    expect(SERVICE("closed", "ready", "", "passed", ""), "OK",
           "key service 'v' (transit) at vault:8200: the self-test passed; token by approle, 60 s "
           "old, good for 3540 s",
           "");
    expect(SERVICE("closed", "none", "", "not yet", ""), "OK", "nothing was asked of it yet", "");
    expect(SERVICE("closed", "none", "", "passed", ""), "OK", "no token now", "");
}

static void test_wrong(void **state UNUSED)
{
    expect(SERVICE("open", "ready", "", "passed", ""), "FAIL", "Vault at vault:8200 doesn't answer",
           CHECK);
    expect(SERVICE("half-open", "ready", "", "passed", ""), "WARN", "asked again", CHECK);
    expect(SERVICE("closed", "none", "login by 'approle': no", "not yet", ""), "FAIL",
           "login by 'approle': no", CHECK);
    expect(SERVICE("closed", "ready", "", "failed", "self-test: must not allow"), "FAIL",
           "self-test: must not allow", CHECK);
    /* said once, though both know of it */
    expect(SERVICE("closed", "none", "no login", "failed", "no login"), "FAIL", "no login", CHECK);
}

static void test_file(void **state UNUSED)
{
    expect("[{\"name\":\"d\",\"kind\":\"file\",\"insecure\":true}]", "WARN",
           "key service 'd' (file) is for development only",
           "use Vault: whoever reads the master key file reads every key");
}

/* What a daemon of another version may say: nothing is believed, nothing crashes. */
static void test_strange(void **state UNUSED)
{
    expect("[{\"name\":1},{\"name\":\"d\",\"kind\":\"x\",\"service\":{}}]", "OK", "'d' (x)", "");
    expect("[7,{\"name\":\"d\",\"kind\":\"x\",\"service\":{\"addresses\":7,\"refusal\":7}}]", "OK",
           "an unknown address", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fine),
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_strange),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/vault_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* word NULL: nothing is wrong with it. */
static void expect(const char *key, bool tenant, enum verdict verdict, const char *word)
{
    AUTO_JSON json_t *parsed = json_own(key);
    enum verdict found = FOUND_OK;

    assert_non_null(parsed);
    const char *problem = vault_key_problem(parsed, tenant, &found);
    if (word == NULL) {
        assert_null(problem);
        return;
    }
    assert_non_null(problem);
    assert_non_null(strstr(problem, word));
    assert_int_equal(found, verdict);
}

#define RIGHT "\"type\":\"aes256-gcm96\",\"derived\":true"

static void test_keys(void **state UNUSED)
{
    expect("{" RIGHT ",\"exportable\":false}", true, FOUND_OK, NULL);
    expect("{\"type\":\"aes256-gcm96\",\"derived\":false}", true, FOUND_FAIL, "not derived");
    expect("{\"type\":\"aes256-gcm96\"}", true, FOUND_FAIL, "not derived");
    expect("{\"type\":\"aes128-gcm96\",\"derived\":true}", true, FOUND_FAIL, "aes256-gcm96");
    expect("{" RIGHT ",\"exportable\":true}", true, FOUND_FAIL, "exportable");
    expect("{" RIGHT ",\"allow_plaintext_backup\":true}", true, FOUND_FAIL, "backed up");
    expect("{" RIGHT ",\"convergent_encryption\":true}", true, FOUND_FAIL, "convergent");
    expect("{" RIGHT ",\"deletion_allowed\":true}", true, FOUND_WARN, "deleted");
    expect("{\"type\":\"rsa-3072\"}", false, FOUND_OK, NULL);
    expect("{\"type\":\"aes256-gcm96\"}", false, FOUND_FAIL, "not an RSA key");
    expect("{\"type\":\"rsa-3072\",\"exportable\":true}", false, FOUND_FAIL, "exportable");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_keys) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

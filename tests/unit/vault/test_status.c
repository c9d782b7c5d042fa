/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "vault/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void test_table(void **state UNUSED)
{
    static const struct {
        long status;
        enum vault_action action;
        enum error_code code;
    } rows[] = {
        { 200, VAULT_TAKE, ERR_OK },
        { 204, VAULT_TAKE, ERR_OK },
        { 301, VAULT_NEXT, ERR_UNAVAILABLE },
        { 307, VAULT_REDIRECT, ERR_UNAVAILABLE },
        { 400, VAULT_REFUSED, ERR_PRECONDITION },
        { 401, VAULT_NEXT, ERR_UNAVAILABLE },
        { 403, VAULT_LOGIN, ERR_PERMISSION },
        { 404, VAULT_REFUSED, ERR_PRECONDITION },
        { 405, VAULT_REFUSED, ERR_PRECONDITION },
        { 412, VAULT_AGAIN, ERR_UNAVAILABLE },
        { 429, VAULT_AGAIN, ERR_UNAVAILABLE },
        { 472, VAULT_NEXT, ERR_UNAVAILABLE },
        { 473, VAULT_NEXT, ERR_UNAVAILABLE },
        { 474, VAULT_NEXT, ERR_UNAVAILABLE },
        { 500, VAULT_AGAIN, ERR_UNAVAILABLE },
        { 501, VAULT_NEXT, ERR_UNAVAILABLE },
        { 502, VAULT_AGAIN, ERR_UNAVAILABLE },
        { 503, VAULT_NEXT, ERR_UNAVAILABLE },
        { 530, VAULT_NEXT, ERR_UNAVAILABLE },
        { 599, VAULT_AGAIN, ERR_UNAVAILABLE },
        { 0, VAULT_NEXT, ERR_UNAVAILABLE },
        { -1, VAULT_NEXT, ERR_UNAVAILABLE },
        { 99999, VAULT_NEXT, ERR_UNAVAILABLE },
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct vault_status *s = vault_status_of(rows[i].status);

        if (s->action != rows[i].action || s->code != rows[i].code)
            fail_msg("%ld: action %d, %s", rows[i].status, s->action, error_code_name(s->code));
    }
}

/* Bodies that real servers sent. */
static void test_reasons(void **state UNUSED)
{
    static const struct {
        const char *body, *reason;
    } rows[] = {
        { "{\"errors\":[\"encryption key not found\"]}\n", VAULT_REASON_NO_KEY },
        { "{\"errors\":[\"ciphertext or signature version is disallowed by policy (too old)\"]}",
          VAULT_REASON_TOO_OLD },
        { "{\"errors\":[\"check-and-set parameter did not match the current version\"]}",
          VAULT_REASON_EXISTS },
        { "{\"errors\":[\"1 error occurred:\\n\\t* permission denied\\n\\n\"]}",
          "permission denied" },
        { "{\"errors\":[\"1 error occurred:\\n\\t* failed to RSA decrypt the ciphertext: "
          "crypto/rsa: "
          "decryption error\\n\\n\"]}",
          VAULT_REASON_SEALED },
        { "{\"errors\":[\"Vault is sealed\"]}", "sealed" },
        { "{\"errors\":[\"invalid secret id\"]}", VAULT_REASON_LOGIN }, /* 1.13 */
        { "{\"errors\":[\"Upgrading from non-versioned to versioned data. This backend will be\"]}",
          VAULT_REASON_UPGRADE },
        { "{\"errors\":[\"hvs.CAESIJ-a-token-sent-back\"]}", "" },
        { "", "" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        assert_string_equal(vault_reason_of(rows[i].body), rows[i].reason);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_reasons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/vault_policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const struct vault_placeholder both[] = { { "T", "transit" }, { "KV", "kv" } };
static const struct vault_placeholder no_kv[] = { { "T", "transit" }, { "KV", NULL } };

static const char text[] = "# head of @T@\n"
                           "\n"
                           "# about one\n"
                           "path \"@T@/a\" {\n"
                           "  capabilities = [\"read\"]\n"
                           "}\n"
                           "\n"
                           "# about two\n"
                           "# in @KV@\n"
                           "path \"@KV@/b\" {\n"
                           "  capabilities = [\"read\"]\n"
                           "}\n"
                           "\n"
                           "path \"c\" {\n"
                           "}\n";

static const char *fill(const struct vault_placeholder *items, const char *without,
                        struct strbuf *sb)
{
    const struct vault_substitution s = { items, 2, without };
    struct error err = ERROR_INIT;

    strbuf_clear(sb);
    assert_int_equal(vault_policy_fill(text, &s, sb, &err), 0);
    return strbuf_text(sb);
}

static void test_filled(void **state UNUSED)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(4096);

    assert_string_equal(fill(both, NULL, &sb), "# head of transit\n"
                                               "\n"
                                               "# about one\n"
                                               "path \"transit/a\" {\n"
                                               "  capabilities = [\"read\"]\n"
                                               "}\n"
                                               "\n"
                                               "# about two\n"
                                               "# in kv\n"
                                               "path \"kv/b\" {\n"
                                               "  capabilities = [\"read\"]\n"
                                               "}\n"
                                               "\n"
                                               "path \"c\" {\n"
                                               "}\n");
}

static void test_left_out(void **state UNUSED)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(4096);

    assert_string_equal(fill(no_kv, NULL, &sb), "# head of transit\n"
                                                "\n"
                                                "# about one\n"
                                                "path \"transit/a\" {\n"
                                                "  capabilities = [\"read\"]\n"
                                                "}\n"
                                                "\n"
                                                "path \"c\" {\n"
                                                "}\n");
    assert_string_equal(fill(no_kv, "@T@/a", &sb), "# head of transit\n\npath \"c\" {\n}\n");
    /* only that path, not one that begins so */
    assert_non_null(strstr(fill(no_kv, "@T@/", &sb), "transit/a"));
}

static void refuse(const char *policy, const char *value, const char *word)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(4096);
    const struct vault_placeholder items[] = { { "T", value } };
    const struct vault_substitution s = { items, 1, NULL };
    struct error err = ERROR_INIT;

    assert_int_equal(vault_policy_fill(policy, &s, &sb, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.msg, word));
    assert_string_equal(strbuf_text(&sb), "");
}

static void test_refused(void **state UNUSED)
{
    refuse("path \"@TT@\" {\n}\n", "x", "@TT@");
    refuse("", "a*", "a*");
    refuse("", "a\"", "can't stand");
    refuse("", "{{identity.entity.id}}", "can't stand");
    refuse("", "", "can't stand");
}

/* What is no placeholder stays as it is. */
static void test_other_signs(void **state UNUSED)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(4096);
    const struct vault_placeholder items[] = { { "T", "x" } };
    const struct vault_substitution s = { items, 1, NULL };
    struct error err = ERROR_INIT;

    assert_int_equal(vault_policy_fill("a@b @ @t@ @@ @T @T@@T@", &s, &sb, &err), 0);
    assert_string_equal(strbuf_text(&sb), "a@b @ @t@ @@ @T xx");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_filled),
        cmocka_unit_test(test_left_out),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_other_signs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

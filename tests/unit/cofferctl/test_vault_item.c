/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/vault_item.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* present NULL: the server has nothing. */
static void expect(enum vault_item_kind kind, const char *wanted, const char *present,
                   enum vault_item_state state, const char *diff)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(4096);
    AUTO_JSON json_t *w = json_own(wanted);
    AUTO_JSON json_t *p = present == NULL ? NULL : json_own(present);
    struct vault_item item = { .kind = kind, .path = "x", .wanted = w };

    assert_non_null(w);
    assert_true(present == NULL || p != NULL);
    assert_int_equal(vault_item_compare(&item, p, &sb), state);
    assert_string_equal(strbuf_text(&sb), diff);
}

static void test_mounts(void **state UNUSED)
{
    expect(ITEM_ENGINE, "{\"type\":\"transit\"}", NULL, ITEM_MISSING, "");
    expect(ITEM_ENGINE, "{\"type\":\"transit\",\"description\":\"a\"}",
           "{\"type\":\"transit\",\"description\":\"b\"}", ITEM_SAME, "");
    expect(ITEM_ENGINE, "{\"type\":\"transit\"}", "{\"type\":\"kv\"}", ITEM_CONFLICT,
           "-type: \"kv\"\n+type: \"transit\"\n");
    expect(ITEM_ENGINE, "{\"type\":\"kv\",\"options\":{\"version\":\"2\"}}",
           "{\"type\":\"kv\",\"options\":{\"version\":\"2\",\"x\":\"y\"}}", ITEM_SAME, "");
    expect(ITEM_ENGINE, "{\"type\":\"kv\",\"options\":{\"version\":\"2\"}}",
           "{\"type\":\"kv\",\"options\":null}", ITEM_CONFLICT,
           "-version: (nothing)\n+version: \"2\"\n");
    expect(ITEM_LOGIN, "{\"type\":\"cert\"}", "{\"type\":\"cert\"}", ITEM_SAME, "");
}

static void test_policies(void **state UNUSED)
{
    expect(ITEM_POLICY, "{\"policy\":\"a\\nb\\n\"}", "{\"policy\":\"a\\nb\\n\"}", ITEM_SAME, "");
    expect(ITEM_POLICY, "{\"policy\":\"a\\nb\\n\"}", NULL, ITEM_MISSING, "+a\n+b\n");
    expect(ITEM_POLICY, "{\"policy\":\"a\\n\"}", "{\"policy\":\"a\\nmore\\n\"}", ITEM_DIFFERS,
           "-more\n");
    expect(ITEM_POLICY, "{\"policy\":\"a\\n\"}", "{}", ITEM_DIFFERS, "+a\n");
}

static void test_settings(void **state UNUSED)
{
    /* what the server says beside it is its own matter; lists are sets; nothing is nothing */
    expect(ITEM_SETTINGS, "{\"l\":[\"a\",\"b\"],\"e\":\"\",\"n\":0,\"z\":[]}",
           "{\"l\":[\"b\",\"a\"],\"n\":null,\"more\":1}", ITEM_SAME, "");
    expect(ITEM_SETTINGS, "{\"l\":[\"a\"]}", "{\"l\":[\"a\",\"b\"]}", ITEM_DIFFERS,
           "-l: [\"a\", \"b\"]\n+l: [\"a\"]\n");
    expect(ITEM_SETTINGS, "{\"l\":[\"a\",\"b\"]}", "{\"l\":[\"a\",\"a\"]}", ITEM_DIFFERS,
           "-l: [\"a\", \"a\"]\n+l: [\"a\", \"b\"]\n");
    expect(ITEM_SETTINGS, "{\"on\":true}", "{\"on\":false}", ITEM_DIFFERS,
           "-on: false\n+on: true\n");
    expect(ITEM_SETTINGS, "{\"e\":\"\"}", "{\"e\":\"*\"}", ITEM_DIFFERS, "-e: \"*\"\n+e: \"\"\n");
    expect(ITEM_SETTINGS, "{\"pem\":\"x\\n\"}", "{\"pem\":\"x\"}", ITEM_SAME, "");
    expect(ITEM_SETTINGS, "{\"on\":true,\"e\":\"\"}", NULL, ITEM_MISSING, "+on: true\n");
}

/* How long a token lives is the administrator's, within reason; that it ends isn't. */
static void test_time_to_live(void **state UNUSED)
{
    expect(ITEM_ROLE, "{\"token_ttl\":3600}", "{\"token_ttl\":7200}", ITEM_SAME, "");
    expect(ITEM_ROLE, "{\"token_ttl\":3600}", "{\"token_ttl\":0}", ITEM_DIFFERS,
           "-token_ttl: 0\n+token_ttl: 3600\n");
    expect(ITEM_ROLE, "{\"token_ttl\":3600}", "{\"token_ttl\":2764800}", ITEM_DIFFERS,
           "-token_ttl: 2764800\n+token_ttl: 3600\n");
}

static void test_by_hand(void **state UNUSED)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(4096);
    AUTO_JSON json_t *nothing = json_object();
    struct vault_item item = { .kind = ITEM_SETTINGS, .wanted = nothing, .by_hand = "type this" };

    assert_int_equal(vault_item_compare(&item, NULL, &sb), ITEM_CONFLICT);
    assert_int_equal(vault_item_compare(&item, nothing, &sb), ITEM_SAME);
}

/* Its size is the administrator's; nothing of it can be changed. */
static void test_server_key(void **state UNUSED)
{
#define MADE "{\"type\":\"rsa-3072\",\"exportable\":false,\"allow_plaintext_backup\":false}"
    expect(ITEM_SERVER_KEY, MADE, NULL, ITEM_MISSING, "");
    expect(ITEM_SERVER_KEY, MADE,
           "{\"type\":\"rsa-4096\",\"exportable\":false,\"latest_version\":7}", ITEM_SAME, "");
    expect(ITEM_SERVER_KEY, MADE, "{\"type\":\"rsa-3072\",\"exportable\":true}", ITEM_CONFLICT,
           "-exportable: true\n+exportable: false\n");
    expect(ITEM_SERVER_KEY, MADE, "{\"type\":\"aes256-gcm96\"}", ITEM_CONFLICT,
           "-type: \"aes256-gcm96\"\n+type: \"rsa-3072\"\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mounts),   cmocka_unit_test(test_policies),
        cmocka_unit_test(test_settings), cmocka_unit_test(test_time_to_live),
        cmocka_unit_test(test_by_hand),  cmocka_unit_test(test_server_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

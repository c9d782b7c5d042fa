/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/recipients.h"

#include "tests/support/unit.h"

/* SHA-256 of "abc" and of "abd" */
#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define ABD "a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9"

static const char one[] =
    "[{\"alg\":\"RSA-OAEP-256\",\"key\":\"YWJj\",\"label\":\"phone\",\"wrapped\":\"AQID\"}]";

static struct recipient member(const char *key)
{
    struct recipient r = { .algorithm = "RSA-OAEP-512", .wrapped = { 1 }, .wrapped_len = 1 };

    r.key_len = strlen(key);
    memcpy(r.key, key, r.key_len);
    return r;
}

static void test_text(void **state UNUSED)
{
    struct recipient_list list;
    char text[RECIPIENTS_TEXT_MAX + 1];

    assert_works(recipients_decode(one, &list, &err));
    assert_int_equal(list.n, 1);
    assert_string_equal(list.items[0].algorithm, "RSA-OAEP-256");
    assert_string_equal(list.items[0].label, "phone");
    assert_string_equal(list.items[0].fingerprint, ABC);
    assert_int_equal(list.items[0].key_len, 3);
    assert_memory_equal(list.items[0].wrapped, "\1\2\3", 3);
    assert_works(recipients_encode(&list, text, &err));
    assert_string_equal(text, one);
}

static void test_empty(void **state UNUSED)
{
    static struct recipient_list list = { .n = 3 };
    char text[RECIPIENTS_TEXT_MAX + 1] = "x";

    assert_works(recipients_decode("", &list, &err));
    assert_int_equal(list.n, 0);
    assert_works(recipients_encode(&list, text, &err));
    assert_string_equal(text, "");
}

#define ENTRY(alg, key, label, wrapped)                                                            \
    "{\"alg\":\"" alg "\",\"key\":\"" key "\",\"label\":\"" label "\",\"wrapped\":\"" wrapped "\"" \
    "}"

static void test_refused(void **state UNUSED)
{
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        { "{}", "recipients must be an array" },
        { "[1]", "a recipient must be an object" },
        { "[" ENTRY("RSA1_5", "YWJj", "", "AQID") "]", "'alg' must be a known algorithm" },
        { "[" ENTRY("RSA-OAEP-256", "YWJj", "a\\u0007", "AQID") "]", "'label' must be text" },
        { "[" ENTRY("RSA-OAEP-256", "", "", "AQID") "]", "'key' must be base64 of 1 to 640" },
        { "[" ENTRY("RSA-OAEP-256", "YWJj\\n", "", "AQID") "]", "'key' must be base64" },
        { "[" ENTRY("RSA-OAEP-256", "YWJj", "", "AQIDB") "]", "'wrapped' must be base64" },
        { "[" ENTRY("RSA-OAEP-256", "YWJj", "", "AQID") "," ENTRY("RSA-OAEP-512", "YWJj", "",
                                                                  "AQID") "]",
          ABC " is a recipient already" },
        { "[{\"alg\":\"RSA-OAEP-256\",\"key\":\"YWJj\",\"wrapped\":\"AQID\"}]", "label" },
        { "[{\"alg\":\"RSA-OAEP-256\",\"key\":\"YWJj\",\"label\":\"\",\"wrapped\":\"AQID\","
          "\"fingerprint\":\"\"}]",
          "fingerprint" },
    };
    struct recipient_list list = { .n = 7 };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct error err = ERROR_INIT;

        assert_int_equal(recipients_decode(cases[i].text, &list, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_non_null(strstr(err.msg, cases[i].sentence));
        assert_int_equal(list.n, 7);
    }
}

static void test_add_and_remove(void **state UNUSED)
{
    struct recipient_list list = { .n = 0 };
    struct recipient abc = member("abc"), abd = member("abd");
    struct error refused = ERROR_INIT;

    assert_works(recipients_add(&list, &abc, &err));
    assert_works(recipients_add(&list, &abd, &err));
    assert_int_equal(recipients_add(&list, &abc, &refused), -1);
    assert_int_equal(refused.code, ERR_EXISTS);
    assert_ptr_equal(recipients_find(&list, ABD), &list.items[1]);
    recipients_remove(&list, recipients_find(&list, ABC));
    assert_int_equal(list.n, 1);
    assert_null(recipients_find(&list, ABC));
    assert_ptr_equal(recipients_find(&list, ABD), &list.items[0]);
}

/* The sixteenth fits, if all are small; large ones end at the text's limit. */
static void test_limits(void **state UNUSED)
{
    struct recipient_list list = { .n = 0 };
    struct error refused = ERROR_INIT;
    char key[3] = "a0", text[RECIPIENTS_TEXT_MAX + 1] = "as it was";

    for (int i = 0; i < RECIPIENTS_MAX; i++, key[1]++) {
        struct recipient r = member(key);
        r.wrapped_len = RECIPIENT_WRAPPED_MAX;
        assert_works(recipients_add(&list, &r, &err));
    }
    struct recipient more = member("more");
    assert_int_equal(recipients_add(&list, &more, &refused), -1);
    assert_int_equal(refused.code, ERR_EXHAUSTED);
    assert_int_equal(recipients_encode(&list, text, &refused), -1);
    assert_int_equal(refused.code, ERR_EXHAUSTED);
    assert_string_equal(text, "as it was");
}

static void test_labels(void **state UNUSED)
{
    assert_true(recipient_label_valid(""));
    assert_true(recipient_label_valid("Ana's phone \xc3\xa9"));
    assert_false(recipient_label_valid("two\nlines"));
    assert_false(recipient_label_valid("\xff"));
    assert_false(
        recipient_label_valid("0123456789012345678901234567890123456789012345678901234567890123"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),           cmocka_unit_test(test_empty),
        cmocka_unit_test(test_refused),        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_add_and_remove), cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

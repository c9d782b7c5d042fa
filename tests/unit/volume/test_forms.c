/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/forms.h"

#include "tests/support/nomem.h"
#include "tests/support/skip.h"
#include "tests/support/unit.h"

/* SHA-256 of "abc" and of "abd" */
#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define ABD "a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9"

#define FORM(print, wrapped) "{\"fingerprint\":\"" print "\",\"wrapped\":\"" wrapped "\"}"

static struct recipient_list list;

static int setup(void **state UNUSED)
{
    static const char *const keys[] = { "abc", "abd" };

    list.n = 0;
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        struct recipient r = {
            .algorithm = "RSA-OAEP-256", .key_len = 3, .wrapped = { 9, 9, 9 }, .wrapped_len = 3
        };

        memcpy(r.key, keys[i], 3);
        assert_works(recipients_add(&list, &r, &err));
    }
    return 0;
}

static void test_good(void **state UNUSED)
{
    assert_works(forms_take("[" FORM(ABD, "AAAB") ",\n " FORM(ABC, "AQID") "]", &list, &err));
    assert_int_equal(list.n, 2);
    assert_memory_equal(list.items[0].wrapped, "\1\2\3", 3);
    assert_memory_equal(list.items[1].wrapped, "\0\0\1", 3);
    assert_string_equal(list.items[0].fingerprint, ABC);
    list.n = 0;
    assert_works(forms_take("[]", &list, &err));
}

static void test_refused(void **state UNUSED)
{
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        { "", "it must be a JSON array" },
        { "{}", "it must be a JSON array" },
        { "[SECRET]", "it must be a JSON array" },
        { "[1]", "each must be an object" },
        { "[{\"fingerprint\":\"" ABC "\"}]", "one of them: field 'wrapped' is missing" },
        { "[{\"fingerprint\":\"" ABC "\",\"wrapped\":\"AQID\",\"key\":\"\"}]",
          "one of them: unknown field 'key'" },
        { "[" FORM(ABC, "AQI") "]",
          "one of them: field 'wrapped' must be base64 of at most 512 bytes" },
        { "[" FORM(ABC, "") "]", "what is wrapped for key " ABC " must have 3 bytes" },
        { "[" FORM(ABC, "AQIDAQID") "]", "what is wrapped for key " ABC " must have 3 bytes" },
        { "[" FORM(ABC, "AQID") "]", "nothing is wrapped for key " ABD ", which stays" },
        { "[]", "nothing is wrapped for key " ABC ", which stays" },
        { "[" FORM(ABC, "AQID") "," FORM(ABC, "AQID") "]", "key " ABC " is there twice" },
        { "[" FORM("SECRET", "AQID") "]", "one of them is for a key that isn't to be a recipient" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_fails(forms_take(cases[i].text, &list, &err), ERR_INVALID, cases[i].sentence);
        assert_memory_equal(list.items[0].wrapped, "\x9\x9\x9", 3);
    }
}

static void test_no_memory(void **state UNUSED)
{
    bool happened = true;

    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    for (unsigned int n = 1; happened; n++) {
        struct error err = ERROR_INIT;

        nomem_arm(n);
        int rc = forms_take("[" FORM(ABD, "AAAB") "," FORM(ABC, "AQID") "]", &list, &err);
        happened = nomem_disarm();
        assert_true(rc == 0 || error_is_memory(&err));
        assert_int_equal(rc, happened ? -1 : 0);
    }
}

static void test_form(void **state UNUSED)
{
    struct recipient r = { .algorithm = "RSA-OAEP-512", .wrapped_len = 256 };

    assert_true(form_fits(&r));
    r.wrapped_len = 255;
    assert_false(form_fits(&r));
    memcpy(r.algorithm, RECIPIENT_X25519, sizeof(RECIPIENT_X25519));
    r.wrapped_len = 80;
    assert_true(form_fits(&r));
    r.wrapped_len = 256;
    assert_false(form_fits(&r));
    assert_true(form_is_der((const unsigned char *)"\x30\x01\x00", 3));
    assert_false(form_is_der((const unsigned char *)"\x30\x01\x00\x00", 4));
    assert_false(form_is_der((const unsigned char *)"abc", 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_good, setup),
        cmocka_unit_test_setup(test_refused, setup),
        cmocka_unit_test_setup(test_no_memory, setup),
        cmocka_unit_test(test_form),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

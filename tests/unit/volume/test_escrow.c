/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/escrow.h"

#include "tests/support/nofile.h"
#include "tests/support/nomem.h"
#include "tests/support/skip.h"
#include "tests/support/tmpdir.h"
#include "tests/support/unit.h"

#include <unistd.h>

/* openssl genpkey -algorithm X25519 | openssl pkey -pubout */
#define BODY  "MCowBQYDK2VuAyEAbSBz7FSl9Si6MrYKXM+HTf8wWbdMSBMf9eLIc0z5Ni4="
#define BEGIN "-----BEGIN PUBLIC KEY-----"
#define END   "-----END PUBLIC KEY-----"
#define FORM  "it must be one public key in PEM (" BEGIN "), with nothing beside it"

static void test_x25519(void **state UNUSED)
{
    static const char *const texts[] = {
        BEGIN "\n" BODY "\n" END "\n",
        BEGIN "\r\n" BODY "\r\n" END "\r\n",
        BEGIN "\nMCowBQYDK2VuAyEAbSBz7FSl9Si6MrYKXM+H\nTf8wWbdMSBMf9eLIc0z5Ni4=\n" END " \n\n",
        BEGIN BODY END,
    };

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct recipient r = { .label = "old" };

        assert_works(escrow_decode(texts[i], strlen(texts[i]), &r, &err));
        assert_string_equal(r.label, "escrow");
        assert_string_equal(r.algorithm, "HPKE-Base-X25519-SHA256-A256GCM");
        assert_true(recipient_algorithm_known(r.algorithm));
        assert_int_equal(r.key_len, 44);
        assert_int_equal(r.key[43], 0x2e);
        assert_int_equal(r.wrapped_len, 0);
        assert_string_equal(r.fingerprint, "");
    }
}

/* What isn't X25519 is taken for RSA; coffer-keyd looks. */
static void test_other(void **state UNUSED)
{
    static const char text[] = BEGIN "\nMIIBIjANBgkqhkiG\n" END "\n";
    struct recipient r;

    assert_works(escrow_decode(text, strlen(text), &r, &err));
    assert_string_equal(r.algorithm, "RSA-OAEP-256");
    assert_int_equal(r.key_len, 12);
}

static void test_refused(void **state UNUSED)
{
    static const char *const texts[] = {
        "",
        BEGIN,
        BEGIN "\n" BODY "\n",
        BEGIN "\n" END "\n",
        BEGIN "\nMCow*\n" END "\n",
        BEGIN "\nMCowB\n" END "\n",
        "# a comment\n" BEGIN "\n" BODY "\n" END "\n",
        BEGIN "\n" BODY "\n" END "\nx",
        BEGIN "\n" BODY "\n" END "\n" BEGIN "\n" BODY "\n" END "\n",
        "-----BEGIN PRIVATE KEY-----\n" BODY "\n-----END PRIVATE KEY-----\n",
        "-----BEGIN RSA PUBLIC KEY-----\n" BODY "\n-----END RSA PUBLIC KEY-----\n",
    };
    struct recipient r = { .label = "old" };

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        assert_fails(escrow_decode(texts[i], strlen(texts[i]), &r, &err), ERR_PRECONDITION, FORM);
    assert_string_equal(r.label, "old");
}

static void test_too_long(void **state UNUSED)
{
    char text[4096] = BEGIN "\n";
    struct recipient r;
    size_t at = strlen(text);

    memset(text + at, 'A', 856); /* 642 bytes */
    memcpy(text + at + 856, END, sizeof(END));
    assert_fails(escrow_decode(text, strlen(text), &r, &err), ERR_PRECONDITION, FORM);
}

static void test_file(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir d = tmpdir_make();
    static const char text[] = BEGIN "\n" BODY "\n" END "\n";
    char path[600], link[600], none[1300], broken[800];
    struct recipient r;

    (void)snprintf(path, sizeof(path), "%s/key.pem", d.path);
    (void)snprintf(link, sizeof(link), "%s/link", d.path);
    (void)snprintf(none, sizeof(none), "the escrow key '%s': open '%s': No such file or directory",
                   path, path);
    (void)snprintf(broken, sizeof(broken), "the escrow key '%s': " FORM, link);
    assert_fails(escrow_read(path, &r, &err), ERR_PRECONDITION, none);
    tmpdir_write(&d, "key.pem", text, strlen(text));
    assert_works(escrow_read(path, &r, &err));
    assert_int_equal(symlink("key.pem", link), 0);
    assert_works(escrow_read(link, &r, &err));
    tmpdir_write(&d, "key.pem", "x", 1);
    assert_fails(escrow_read(link, &r, &err), ERR_PRECONDITION, broken);
}

/* What is lacking here is no fault of the file's. */
static void test_lacking(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir d = tmpdir_make();
    static const char text[] = BEGIN "\n" BODY "\n" END "\n";
    struct error err = ERROR_INIT;
    bool happened = true;
    struct recipient r;
    char path[600];

    (void)snprintf(path, sizeof(path), "%s/key.pem", d.path);
    tmpdir_write(&d, "key.pem", text, strlen(text));
    nofile_arm(0);
    int rc = escrow_read(path, &r, &err);
    nofile_disarm();
    assert_int_equal(rc, -1);
    assert_int_equal(err.code, ERR_EXHAUSTED);
    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    for (unsigned int n = 1; happened; n++) {
        nomem_arm(n);
        rc = escrow_read(path, &r, &err);
        happened = nomem_disarm();
        assert_true(rc == 0 || error_is_memory(&err));
        assert_int_equal(rc, happened ? -1 : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_x25519),  cmocka_unit_test(test_other),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_file),    cmocka_unit_test(test_lacking),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

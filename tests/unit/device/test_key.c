/* SPDX-License-Identifier: Apache-2.0 */
/* A device's key file: made, loaded, refused; its names; what openssl wrapped for it. */
#include "common/base.h"
#include "device/key.h"

#include "tests/support/tmpdir.h"
#include "tests/unit/device/fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

static void has_its_names(void **state UNUSED)
{
    AUTO_DEVICE_KEY struct device_key *k = known_device();
    struct device_public p;
    const char *text = device_key_public(k);

    assert_string_equal(device_key_name(k), KNOWN_NAME);
    assert_string_equal(device_key_fingerprint(k), KNOWN_FINGERPRINT);
    assert_int_equal(strncmp(text, "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA9V0LFypp", 52), 0);
    assert_works(device_public_parse(text, strlen(text), &p, &err));
    assert_string_equal(p.name, KNOWN_NAME);
    assert_string_equal(p.fingerprint, KNOWN_FINGERPRINT);
    assert_string_equal(p.text, text);
}

static void makes_a_file(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    AUTO_DEVICE_KEY struct device_key *k = NULL;
    AUTO_SECRET struct secret *key = known_key();
    AUTO_SECRET struct secret *got = NULL;
    const char *path = tmpdir_path(&t, "phone.key");
    char wrapped[DEVICE_WRAPPED_SIZE];
    struct stat st;

    assert_works(device_key_create(path, &err));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_works(device_key_load(path, &k, &err));
    assert_int_equal(strlen(device_key_name(k)), 64);
    assert_works(device_wrap(DEVICE_ALGORITHM, device_key_public(k), key, wrapped, &err));
    assert_int_equal(strlen(wrapped), 512); /* 3072 bits */
    assert_works(device_unwrap(k, DEVICE_ALGORITHM, wrapped, &got, &err));
    assert_true(secret_equal(got, key));
    AUTO_FREE char *before = tmpdir_read(&t, "phone.key");
    struct error err = ERROR_INIT;
    assert_int_equal(device_key_create(path, &err), -1);
    assert_int_equal(err.code, ERR_EXISTS);
    AUTO_FREE char *after = tmpdir_read(&t, "phone.key");
    assert_string_equal(before, after);
}

static void opens_what_openssl_wrapped(void **state UNUSED)
{
    AUTO_DEVICE_KEY struct device_key *k = known_device();
    AUTO_SECRET struct secret *key = known_key();
    AUTO_SECRET struct secret *got = NULL;

    assert_works(device_unwrap(k, "RSA-OAEP-256", OPENSSL_256, &got, &err));
    assert_true(secret_equal(got, key));
    assert_fails(device_unwrap(k, "RSA-OAEP-512", OPENSSL_256, &got, &err), ERR_INVALID,
                 "this private key doesn't open what was wrapped by RSA-OAEP-512: it was wrapped "
                 "for another key or use, or was changed");
    assert_fails(device_unwrap(k, "HPKE-Base-X25519-SHA256-A256GCM", OPENSSL_256, &got, &err),
                 ERR_INVALID, "'HPKE-Base-X25519-SHA256-A256GCM' is no algorithm of RSA keys");
    assert_fails(device_unwrap(k, "RSA-OAEP-256", "no base64", &got, &err), ERR_INVALID,
                 "what was wrapped for this device is no base64");
}

static void refuses_bad_files(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    struct device_key *k = NULL;
    char sentence[1024], big[PRIVATE_KEY_MAX + 2];
    const char *path = tmpdir_path(&t, "k");

    tmpdir_write(&t, "k", RSA_PEM, strlen(RSA_PEM));
    assert_int_equal(chmod(path, 0640), 0);
    (void)snprintf(sentence, sizeof(sentence),
                   "the key file '%s' is open to others (mode 0640): chmod 600 it", path);
    assert_fails(device_key_load(path, &k, &err), ERR_PERMISSION, sentence);
    assert_int_equal(chmod(path, 0600), 0);
    memset(big, 'x', sizeof(big));
    tmpdir_write(&t, "k", big, sizeof(big));
    (void)snprintf(sentence, sizeof(sentence), "'%s' is longer than 16384 bytes: it is no key file",
                   path);
    assert_fails(device_key_load(path, &k, &err), ERR_INVALID, sentence);
    (void)snprintf(sentence, sizeof(sentence),
                   "open the key file '%s/none': No such file or directory", t.path);
    assert_fails(device_key_load(tmpdir_path(&t, "none"), &k, &err), ERR_NOT_FOUND, sentence);
    assert_null(k);
}

static void refuses_other_public_keys(void **state UNUSED)
{
    static const char X25519[] = "MCowBQYDK2VuAyEAhSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
    struct device_public p;

    assert_fails(device_public_parse(X25519, strlen(X25519), &p, &err), ERR_INVALID,
                 "a device's key must be RSA of 2048 to 4096 bits");
    assert_int_equal(device_public_parse("", 0, &p, NULL), -1);
    assert_int_equal(device_public_parse("hello", 5, &p, NULL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_its_names),
        cmocka_unit_test(makes_a_file),
        cmocka_unit_test(opens_what_openssl_wrapped),
        cmocka_unit_test(refuses_bad_files),
        cmocka_unit_test(refuses_other_public_keys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

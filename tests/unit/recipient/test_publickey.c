/* SPDX-License-Identifier: Apache-2.0 */
/* The names were computed apart from this code, by Node's crypto from its own JWK export. */
#include "common/base.h"
#include "recipient/publickey.h"

#include "common/b64.h"

#include <openssl/ui.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* The key of the requirement's test vector: a public key that Google publishes for wrapped keys. */
#define RSA_PEM                                                          \
    "-----BEGIN PUBLIC KEY-----\n"                                       \
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEApg4Oo7ygEBmAlzhUZFm2\n" \
    "75K999TqNjvgiAi/pSzAJS6XO3sa346zZYjZpj4l4OP5T2xlmPXoF/igbCO9jAeW\n" \
    "+Y8N1VZ6LRvPQ+ndP22ZyL/kiJFc1jUVrBm9ItzTGSO44Z4A77uDga1eAWkIg/9i\n" \
    "mp+tY0qmlmhnRHwoQkZDU1c08SLA4p6IV3NssgwKaN8KwM53KDxw6kDo0INfS+Ym\n" \
    "MNZ8oHg8FJ5Q3ExR54fD1/WFngOSexpzNtGvZGMaoCnISMumEo8nfENtMXxnLquu\n" \
    "BvYAOQEQs7vl0ES/DD0dNzVonZTo9/c8yr0SlcWg8Uy7XkD5FQSE5A87pOZUDEcD\n" \
    "FQIDAQAB\n"                                                         \
    "-----END PUBLIC KEY-----\n"
#define RSA_FINGERPRINT "424e399fdb0c64ad9c656f0c999f2b658cb18da30d58e4c51743bf1e6f67088a"
#define RSA_THUMBPRINT  "9z0IoaepMG63RzoZQaHbfTnldtx57wS2PlnbA1ucZ0E"
#define RSA_ARCS        "d028d8d642e8bc7abd736f79c53ff0b06a7b57412796d7213b17a32c1974c1ce"

#define X25519_DER         "302a300506032b656e032100"
#define X25519_RAW         "430f4b9859665145a6b1ba274024487bd66f03a2dd577d7753c68d7d7d00c00c"
#define X25519_FINGERPRINT "400f0871d48f1a804219c05417b27637c3d6b38a842b3c2b46ad4364b2b84047"
#define X25519_THUMBPRINT  "sIQfN9wNK0sLRA-TBFp9omQmCFROzm-a5pla1_VYqDU"

static size_t x25519(unsigned char der[64])
{
    assert_int_equal(hex_decode(der, X25519_DER X25519_RAW, 44), 0);
    return 44;
}

static void names_an_rsa_key(void **state)
{
    AUTO_PUBLIC_KEY struct public_key *k = NULL;
    char thumbprint[THUMBPRINT_LEN + 1], arcs[FINGERPRINT_LEN + 1];
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(public_key_parse(RSA_PEM, strlen(RSA_PEM), &k, &err), 0);
    assert_int_equal(public_key_kind(k), PUBLIC_KEY_RSA);
    assert_int_equal(public_key_bits(k), 2048);
    assert_string_equal(public_key_fingerprint(k), RSA_FINGERPRINT);
    assert_int_equal(public_key_thumbprint(k, thumbprint, &err), 0);
    assert_string_equal(thumbprint, RSA_THUMBPRINT);
    assert_int_equal(public_key_arcs_fingerprint(k, arcs, &err), 0);
    assert_string_equal(arcs, RSA_ARCS);
}

static void names_an_x25519_key(void **state)
{
    AUTO_PUBLIC_KEY struct public_key *k = NULL;
    char thumbprint[THUMBPRINT_LEN + 1], arcs[FINGERPRINT_LEN + 1];
    unsigned char der[64];
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(public_key_parse(der, x25519(der), &k, &err), 0);
    assert_int_equal(public_key_kind(k), PUBLIC_KEY_X25519);
    assert_string_equal(public_key_fingerprint(k), X25519_FINGERPRINT);
    assert_int_equal(public_key_thumbprint(k, thumbprint, &err), 0);
    assert_string_equal(thumbprint, X25519_THUMBPRINT);
    assert_int_equal(public_key_arcs_fingerprint(k, arcs, &err), -1);
    assert_int_equal(err.code, ERR_PRECONDITION);
}

static void refuse(const void *data, size_t len, const char *word)
{
    struct public_key *k = NULL;
    struct error err = ERROR_INIT;

    assert_int_equal(public_key_parse(data, len, &k, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    if (strstr(err.msg, word) == NULL)
        fail_msg("'%s' doesn't say '%s'", err.msg, word);
    assert_null(k);
}

static void refuses_what_is_no_key(void **state)
{
    static char big[PUBLIC_KEY_MAX + 1];
    unsigned char der[64];
    size_t len = x25519(der);

    (void)state;
    refuse("", 0, "0 bytes");
    refuse(big, sizeof(big), "4097 bytes");
    refuse("x", 1, "SubjectPublicKeyInfo");
    for (size_t n = 1; n < len; n++)
        refuse(der, n, "SubjectPublicKeyInfo");
    der[len] = 0;
    refuse(der, len + 1, "SubjectPublicKeyInfo");
    refuse(RSA_PEM RSA_PEM, 2 * strlen(RSA_PEM), "one SubjectPublicKeyInfo");
    refuse(RSA_PEM "x", strlen(RSA_PEM) + 1, "one SubjectPublicKeyInfo");
    refuse(" " RSA_PEM, strlen(RSA_PEM) + 1, "SubjectPublicKeyInfo");
}

/* RSA of 1024 bits, RSA of 2048 bits with exponent 3, P-256, Ed25519: made by openssl genpkey. */
static void refuses_other_kinds(void **state)
{
    static const struct {
        const char *pem, *word;
    } ROWS[] = {
        { "-----BEGIN PUBLIC KEY-----\n"
          "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC1jLlWh3sCt7ZSfIJTepxOaBup\n"
          "xolNMYiz8brF7zckmK74Cn8exn+Su2mXw9wSARhPHjvekVsGnZmPxwMdyPcMwzsv\n"
          "cv5L/c03EkIlKm+ZeoTBh7HXJIp62NlMY+n0e/CfSmN6IRh3TEqW+Hi6mOoWkXvq\n"
          "n7WFEesxxTCwfx6wvQIDAQAB\n"
          "-----END PUBLIC KEY-----\n",
          "1024 bits" },
        { "-----BEGIN PUBLIC KEY-----\n"
          "MIIBIDANBgkqhkiG9w0BAQEFAAOCAQ0AMIIBCAKCAQEA6GIfoRUXquDWOQHJSLny\n"
          "AHo4wWgqKmDmc1/rKZsWncTJ4jcLDMzFkviG1x7bAzWvHP6lk97yDVAHOfxuIO4L\n"
          "Wc3LkbT09ri/hq/Wk63Kk8AEBHJsW5UK/CHH+dWWsl0dpAqt1tyHT+ZfLxtNg+5d\n"
          "TBOscR0+yUBIeGQgIX8Jmv1bH1A0g/OtktDGEbHVxbYulp6TRECdOg8mkQR0FbPB\n"
          "dtDclxEd9T4I+jbWPK2UHUUo1iKlBOlkVrg6kux0jw2zFPcimXQtfy2M14AL/9Sc\n"
          "omKXKfGRLi1kQc4m2PVSdbOpLJQ0Xbyuwsm2DqkD+seIJBdxPccumwDhnWqQZD8U\n"
          "/QIBAw==\n"
          "-----END PUBLIC KEY-----\n",
          "isn't 65537" },
        { "-----BEGIN PUBLIC KEY-----\n"
          "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEBXYgGtgo2vvy6rexLv8lJpA9u9qF\n"
          "BPVD0aQZr4rHzz7zjP8ne6jV4l6Fs40kQJnQSNn8ffqEbOkbRHbiqqL57g==\n"
          "-----END PUBLIC KEY-----\n",
          "neither RSA nor X25519" },
        { "-----BEGIN PUBLIC KEY-----\n"
          "MCowBQYDK2VwAyEAoYCW02SjmMZW/NUdhjxDMh5QEg7t/FW0cbgC8zZ/7Zg=\n"
          "-----END PUBLIC KEY-----\n",
          "neither RSA nor X25519" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(ROWS); i++)
        refuse(ROWS[i].pem, strlen(ROWS[i].pem), ROWS[i].word);
}

/* Its modulus ends before the 5 bytes of its exponent. */
static void refuses_an_even_modulus(void **state)
{
    AUTO_PUBLIC_KEY struct public_key *k = NULL;
    unsigned char der[PUBLIC_KEY_DER_MAX];
    struct error err = ERROR_INIT;
    size_t len = sizeof(der);

    (void)state;
    assert_int_equal(public_key_parse(RSA_PEM, strlen(RSA_PEM), &k, &err), 0);
    assert_int_equal(public_key_der(k, der, &len, &err), 0);
    der[len - 6] &= 0xfe;
    refuse(der, len, "an RSA key whose modulus is even");
}

static unsigned int asked;

static int ask(UI *ui, UI_STRING *what)
{
    asked += UI_get_string_type(what) == UIT_PROMPT;
    (void)ui;
    return 0;
}

/* PEM has headers of its own; libcrypto would ask on the terminal, or standard input, whatever the
 * process is. */
static void asks_for_no_passphrase(void **state)
{
    static const char pem[] = "-----BEGIN PUBLIC KEY-----\n"
                              "Proc-Type: 4,ENCRYPTED\n"
                              "DEK-Info: AES-128-CBC,000102030405060708090A0B0C0D0E0F\n"
                              "\n"
                              "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEApg4Oo7ygEBmAlzhUZFm2\n"
                              "-----END PUBLIC KEY-----\n";
    UI_METHOD *terminal = UI_create_method("a terminal of ours");
    struct public_key *k = NULL;
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(UI_method_set_reader(terminal, ask), 0);
    UI_set_default_method(terminal);
    assert_int_equal(public_key_parse(pem, strlen(pem), &k, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(asked, 0);
    UI_set_default_method(UI_OpenSSL());
    UI_destroy_method(terminal);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(asks_for_no_passphrase), cmocka_unit_test(names_an_rsa_key),
        cmocka_unit_test(names_an_x25519_key),    cmocka_unit_test(refuses_what_is_no_key),
        cmocka_unit_test(refuses_other_kinds),    cmocka_unit_test(refuses_an_even_modulus),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

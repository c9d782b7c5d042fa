/* SPDX-License-Identifier: Apache-2.0 */
/* Private keys and what was wrapped for them: by this folder's own wrap.c, by openssl(1) and by
 * WebCrypto, and for HPKE by a second implementation (Node.js); what doesn't fit opens nothing. */
#include "common/base.h"
#include "recipient/unwrap.h"

#include "common/b64.h"
#include "tests/support/rsa_key.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* Made for this file: openssl genpkey. */
static const char X25519_PEM[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VuBCIEIEh64bhsYxMXlOyKPNnFkJ/khmEqodtSioZN6d3Fb+1y\n"
    "-----END PRIVATE KEY-----\n";
/* The bytes 0 to 31, openssl pkeyutl -encrypt, OAEP and MGF1 by the same hash */
static const char OPENSSL_512[] =
    "gXy1omXpIGpTfiVQK15rnf3ziKZGxgSqtPgscoMsdBmRG9aZ8McXWqRKnRszUM3NpmPfsDybhriA0DEu"
    "soHI7cwTHNj7J8OjvOHLMXyqI497gaHodIfQWmTniyb5De63BhCJUKRzUWBJa2S89EVlUndWYQsXjt0B"
    "djcOCgPA9TFAFzPJxQijBkLEvr/j89vwRZ+zKXYvzyC+kDRKGSM8QMTEP3QT2zEASn9p5tkhVxWga8oJ"
    "9XiSYzN+cG+yZlwnm1qx/uDnAnkZo4AwhB6Unp1BrGPkQZABmzezJTmC1Y2WYahdG31z1ZSsbI1Oqq/Y"
    "yV7m/JhTeNgSof6ANsBnng==";
/* The same by crypto.subtle.encrypt({name: "RSA-OAEP"}) */
static const char WEB_256[] =
    "KqcAjonk+fLxPZGNpTS+LhPDvBV8RNkRM89f7qfwkAGrbuYoT4XhX/GyGMwtZV5qKTQzc3F9JF8QkGg6"
    "UqSGIMqNb3nYW+V52wE6q475lgaTJvcb6N10dd6Dzw+qBxHVCHGuBw3fxTiHypGMJNWTtQgiviAsYNSa"
    "j2MpTyDkGxyUnOJdL80cftTPNIjq6y7lyqZaVt16pVWw53kf1ZNdvQkhNjNpvS4xSR67RLj+sqN9mPNi"
    "1zVoQMPle2Agc/dEhqFlEpmpFQdMkrJ0adPrm2hvukiaPK3M318iW/XRLIdeZaWyI9DiiH884y3+NYoI"
    "gPPbsY/ePxixnvXNJPwL1g==";
static const char WEB_512[] =
    "aIBux2iIjx51NEDvwrpO0flNEFbDlk48aevctA++KmhnA2tYOrXnLlgf6/WiHzqkN2vWVhWdnCrvmF2N"
    "Sfd8A56tSThkGESpU7H1Xd0GQpu7Bdjz4Ynh/yD+EV/dtI1ZPd2xKaW8GSDo5SahMTm4xNcZ+kaA5xTt"
    "g9x6Pm9qx1IC3+7fXsi5ucp1u4NvyLTgYnajBDKumob9f8etU+dYJnzfJ0wG+kOmARPDiWcnfoEwIr5V"
    "HLgVMYsoMjW3wInb6K5RGR12qATyg8yjaQRvrZRllCpvrbdfzcu9Z2w55FAog4PDBBBRJ/9BunQe63DA"
    "jnxPByyTVU7eQlM9BVDykw==";
/* The same by RFC 9180 on Node.js' crypto; info "volume a" */
static const char NODE_HPKE[] =
    "fE/nkexn+vMYwIk2fnYEzsoBeXkEVC9yNO9HOD5Uiw7KPAVNWlXWWm5aXE3Px5nC/xqaaSZw33A/GKYv"
    "/Sat0b0grgByh01FwvVxfYx+SoM=";

#define RSA_256 "RSA-OAEP-256"
#define RSA_512 "RSA-OAEP-512"
#define HPKE    "HPKE-Base-X25519-SHA256-A256GCM"

static const struct bytes USE = { "volume a", 8 }, OTHER_USE = { "volume b", 8 };

static struct secret *secret_of(const char *text)
{
    struct secret *s = secret_new(PRIVATE_KEY_MAX + 1, NULL);

    assert_non_null(s);
    memcpy(secret_bytes(s), text, strlen(text));
    secret_set_len(s, strlen(text));
    return s;
}

static int parse(const char *text, struct private_key **ret, struct error *err)
{
    AUTO_SECRET struct secret *pem = secret_of(text);

    return private_key_parse(pem, ret, err);
}

static struct private_key *key_of(const char *pem)
{
    struct private_key *k = NULL;

    assert_int_equal(parse(pem, &k, NULL), 0);
    return k;
}

static struct wrapped wrapped_of(const char *b64)
{
    struct wrapped w;

    assert_int_equal(b64_decode(w.data, sizeof(w.data), b64, strlen(b64), &w.len), 0);
    return w;
}

static bool is_count(const struct secret *s)
{
    for (size_t i = 0; i < secret_len(s); i++) {
        if (secret_data(s)[i] != i)
            return false;
    }
    return secret_len(s) == 32;
}

static int unwrap(const char *alg, const struct private_key *k, struct bytes info,
                  const struct wrapped *w, struct secret **ret, struct error *err)
{
    return unwrap_key(wrap_algorithm(alg), k, info, (struct bytes){ w->data, w->len }, ret, err);
}

static void must_refuse(const char *alg, const struct private_key *k, struct bytes info,
                        const struct wrapped *w)
{
    struct error err = ERROR_INIT;
    struct secret *got = NULL;
    char sentence[512];

    assert_int_equal(unwrap(alg, k, info, w, &got, &err), -1);
    assert_null(got);
    assert_int_equal(err.code, ERR_INVALID);
    (void)snprintf(sentence, sizeof(sentence),
                   "this private key doesn't open what was wrapped by %s: it was wrapped for "
                   "another key or use, or was changed",
                   alg);
    assert_string_equal(err.msg, sentence);
}

static void opens_what_others_wrapped(void **state UNUSED)
{
    static const struct {
        const char *alg, *pem, *wrapped;
    } ROWS[] = {
        { RSA_256, RSA_PEM, OPENSSL_256 }, { RSA_512, RSA_PEM, OPENSSL_512 },
        { RSA_256, RSA_PEM, WEB_256 },     { RSA_512, RSA_PEM, WEB_512 },
        { HPKE, X25519_PEM, NODE_HPKE },
    };

    for (size_t i = 0; i < ARRAY_SIZE(ROWS); i++) {
        AUTO_PRIVATE_KEY struct private_key *k = key_of(ROWS[i].pem);
        AUTO_SECRET struct secret *got = NULL;
        const struct wrapped w = wrapped_of(ROWS[i].wrapped);

        assert_int_equal(unwrap(ROWS[i].alg, k, USE, &w, &got, NULL), 0);
        assert_true(is_count(got));
    }
}

static void opens_what_wrap_wrapped(void **state UNUSED)
{
    static const struct {
        const char *alg, *pem;
        size_t len;
    } ROWS[] = {
        { RSA_256, RSA_PEM, 32 }, { RSA_512, RSA_PEM, 1 },  { RSA_512, RSA_PEM, 64 },
        { HPKE, X25519_PEM, 32 }, { HPKE, X25519_PEM, 64 },
    };

    for (size_t i = 0; i < ARRAY_SIZE(ROWS); i++) {
        AUTO_PRIVATE_KEY struct private_key *k = key_of(ROWS[i].pem);
        AUTO_SECRET struct secret *key = secret_new(64, NULL);
        AUTO_SECRET struct secret *got = NULL;
        struct wrapped w;

        assert_int_equal(secret_random(key, ROWS[i].len, NULL), 0);
        assert_int_equal(
            wrap_key(wrap_algorithm(ROWS[i].alg), private_key_public(k), USE, key, &w, NULL), 0);
        assert_int_equal(unwrap(ROWS[i].alg, k, USE, &w, &got, NULL), 0);
        assert_true(secret_equal(got, key));
    }
}

static void refuses_what_was_changed(void **state UNUSED)
{
    static const struct {
        const char *alg, *pem, *wrapped;
    } ROWS[] = { { RSA_256, RSA_PEM, OPENSSL_256 }, { HPKE, X25519_PEM, NODE_HPKE } };

    for (size_t i = 0; i < ARRAY_SIZE(ROWS); i++) {
        AUTO_PRIVATE_KEY struct private_key *k = key_of(ROWS[i].pem);
        struct wrapped w = wrapped_of(ROWS[i].wrapped);

        for (size_t bit = 0; bit < 8 * w.len; bit += 37) {
            w.data[bit / 8] ^= (unsigned char)(1u << (bit % 8));
            must_refuse(ROWS[i].alg, k, USE, &w);
            w.data[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        }
        for (w.len--; w.len > 0; w.len /= 2)
            must_refuse(ROWS[i].alg, k, USE, &w);
        must_refuse(ROWS[i].alg, k, USE, &w);
        w.len = WRAPPED_MAX;
        must_refuse(ROWS[i].alg, k, USE, &w);
    }
}

static void refuses_another_use_or_hash(void **state UNUSED)
{
    AUTO_PRIVATE_KEY struct private_key *rsa = key_of(RSA_PEM);
    AUTO_PRIVATE_KEY struct private_key *x25519 = key_of(X25519_PEM);
    const struct wrapped by_256 = wrapped_of(OPENSSL_256), by_512 = wrapped_of(WEB_512),
                         hpke = wrapped_of(NODE_HPKE);
    struct error err = ERROR_INIT;
    struct secret *got = NULL;

    must_refuse(HPKE, x25519, OTHER_USE, &hpke);
    must_refuse(RSA_512, rsa, USE, &by_256);
    must_refuse(RSA_256, rsa, USE, &by_512);
    must_refuse(HPKE, x25519, USE, &by_256);
    must_refuse(RSA_256, rsa, USE, &hpke);
    assert_int_equal(unwrap(HPKE, rsa, USE, &hpke, &got, &err), -1);
    assert_string_equal(err.msg, HPKE " doesn't take this kind of key");
    assert_int_equal(unwrap(RSA_256, x25519, USE, &by_256, &got, &err), -1);
    assert_string_equal(err.msg, RSA_256 " doesn't take this kind of key");
    assert_null(got);
}

static void refuses_another_key(void **state UNUSED)
{
    static const char OTHER[] = "-----BEGIN PRIVATE KEY-----\n"
                                "MC4CAQAwBQYDK2VuBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n"
                                "-----END PRIVATE KEY-----\n";
    AUTO_PRIVATE_KEY struct private_key *k = key_of(OTHER);
    const struct wrapped w = wrapped_of(NODE_HPKE);

    must_refuse(HPKE, k, USE, &w);
}

/* Of both keys, by: openssl pkey -in FILE -pubout -outform DER | sha256sum */
static void knows_its_public_half(void **state UNUSED)
{
    AUTO_PRIVATE_KEY struct private_key *rsa = key_of(RSA_PEM);
    AUTO_PRIVATE_KEY struct private_key *x25519 = key_of(X25519_PEM);

    assert_int_equal(public_key_kind(private_key_public(rsa)), PUBLIC_KEY_RSA);
    assert_string_equal(public_key_fingerprint(private_key_public(rsa)),
                        "898f23e5c631aeee73ed39fdb04d84fc406c3e1a559f2d8c447d8bc5f9ef4c34");
    assert_string_equal(public_key_fingerprint(private_key_public(x25519)),
                        "461c095e84bc45d6f25b5d9f4fa36a213670c5f3468b2f300fd6086907e11b91");
}

static void refuses_other_forms(void **state UNUSED)
{
    static const char FORM[] = "a private key must be one PKCS#8 block in PEM ('openssl pkey -in "
                               "FILE' writes it so), with nothing beside it";
    static const struct {
        const char *text, *sentence;
    } ROWS[] = {
        { "", "a private key of 0 bytes, where 1 to 16384 are taken" },
        { "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMII",
          "the private key is protected by a passphrase: give it through a pipe, as 'openssl pkey "
          "-in FILE' writes it" },
        { "-----BEGIN PRIVATE KEY-----\n", FORM },
        { "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2Vu\n-----END PRIVATE KEY-----\n", FORM },
        { "-----BEGIN RSA PRIVATE KEY-----\nMII\n", FORM },
        { "-----BEGIN PUBLIC KEY-----\nMII\n", FORM },
        { "# a comment\n-----BEGIN PRIVATE KEY-----\n", FORM },
        { "-----BEGIN PRIVATE KEY-----\n" /* ed25519 */
          "MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n"
          "-----END PRIVATE KEY-----\n",
          "the private key can't be used: a public key that is neither RSA nor X25519" },
    };
    struct private_key *k = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(ROWS); i++) {
        struct error err = ERROR_INIT;

        assert_int_equal(parse(ROWS[i].text, &k, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_string_equal(err.msg, ROWS[i].sentence);
        assert_null(k);
    }
}

static void refuses_what_stands_beside(void **state UNUSED)
{
    static const char *const BEHIND[] = { X25519_PEM, "x", "\n\nMC4C" };
    struct private_key *k = NULL;
    char text[1024];

    for (size_t i = 0; i < ARRAY_SIZE(BEHIND); i++) {
        (void)snprintf(text, sizeof(text), "%s%s", X25519_PEM, BEHIND[i]);
        assert_int_equal(parse(text, &k, NULL), -1);
        assert_null(k);
    }
    (void)snprintf(text, sizeof(text), "%s\r\n \t\n", X25519_PEM);
    k = key_of(text);
    private_key_free(k);
}

static void refuses_what_is_too_long(void **state UNUSED)
{
    AUTO_SECRET struct secret *pem = secret_of(X25519_PEM);
    struct error err = ERROR_INIT;
    struct private_key *k = NULL;

    memset(secret_bytes(pem) + secret_len(pem), '\n', secret_capacity(pem) - secret_len(pem));
    secret_set_len(pem, PRIVATE_KEY_MAX + 1);
    assert_int_equal(private_key_parse(pem, &k, &err), -1);
    assert_string_equal(err.msg, "a private key of 16385 bytes, where 1 to 16384 are taken");
    secret_set_len(pem, PRIVATE_KEY_MAX);
    assert_int_equal(private_key_parse(pem, &k, &err), 0);
    private_key_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_what_others_wrapped), cmocka_unit_test(opens_what_wrap_wrapped),
        cmocka_unit_test(refuses_what_was_changed),  cmocka_unit_test(refuses_another_use_or_hash),
        cmocka_unit_test(refuses_another_key),       cmocka_unit_test(knows_its_public_half),
        cmocka_unit_test(refuses_other_forms),       cmocka_unit_test(refuses_what_stands_beside),
        cmocka_unit_test(refuses_what_is_too_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

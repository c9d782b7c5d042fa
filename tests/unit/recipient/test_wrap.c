/* SPDX-License-Identifier: Apache-2.0 */
/* That the other side can open what is wrapped: libcrypto's own decryption with a fresh key here,
 * real devices (WebCrypto, openssl) in the component test. */
#include "common/base.h"
#include "recipient/wrap.h"

#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct pair {
    EVP_PKEY *own;
    struct public_key *theirs;
};

static struct pair pair_of(EVP_PKEY *own)
{
    struct pair p = { .own = own };
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(own, &der);

    assert_true(len > 0);
    assert_int_equal(public_key_parse(der, (size_t)len, &p.theirs, NULL), 0);
    OPENSSL_free(der);
    return p;
}

static void drop(struct pair *p)
{
    EVP_PKEY_free(p->own);
    public_key_free(p->theirs);
}

static struct secret *storage_key(size_t len)
{
    struct secret *s = secret_new(len, NULL);

    assert_non_null(s);
    assert_int_equal(secret_random(s, len, NULL), 0);
    return s;
}

/* With this hash for OAEP and for MGF1; false when it doesn't open. */
static bool opens(const struct pair *p, const char *hash, const struct wrapped *w,
                  const struct secret *key)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, p->own, NULL);
    unsigned char out[WRAPPED_MAX];
    size_t len = sizeof(out);
    bool ok = EVP_PKEY_decrypt_init(ctx) > 0 &&
              EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) > 0 &&
              EVP_PKEY_CTX_set_rsa_oaep_md_name(ctx, hash, NULL) > 0 &&
              EVP_PKEY_CTX_set_rsa_mgf1_md_name(ctx, hash, NULL) > 0 &&
              EVP_PKEY_decrypt(ctx, out, &len, w->data, w->len) > 0;

    EVP_PKEY_CTX_free(ctx);
    return ok && len == secret_len(key) && memcmp(out, secret_data(key), len) == 0;
}

static void wraps_for_rsa(void **state)
{
    static const struct {
        const char *name, *hash, *other;
    } ROWS[] = { { "RSA-OAEP-256", "SHA256", "SHA512" }, { "RSA-OAEP-512", "SHA512", "SHA1" } };
    struct pair p = pair_of(EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048));
    AUTO_SECRET struct secret *key = storage_key(32);

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(ROWS); i++) {
        const struct wrap_algorithm *a = wrap_algorithm(ROWS[i].name);
        struct wrapped w;

        assert_non_null(a);
        assert_int_equal(wrap_key(a, p.theirs, (struct bytes){ "", 0 }, key, &w, NULL), 0);
        assert_int_equal(w.len, 256);
        assert_true(opens(&p, ROWS[i].hash, &w, key));
        assert_false(opens(&p, ROWS[i].other, &w, key));
    }
    drop(&p);
}

static void wraps_for_x25519(void **state)
{
    struct pair p = pair_of(EVP_PKEY_Q_keygen(NULL, NULL, "X25519"));
    const struct wrap_algorithm *a = wrap_default(p.theirs);
    const struct bytes use = { "volume a", 8 }, other = { "volume b", 8 }, none = { "", 0 };
    AUTO_SECRET struct secret *key = storage_key(32);
    AUTO_SECRET struct secret *own = secret_new(HPKE_KEY_BYTES, NULL);
    AUTO_SECRET struct secret *got = NULL;
    size_t len = HPKE_KEY_BYTES;
    struct wrapped w;

    (void)state;
    assert_int_equal(EVP_PKEY_get_raw_private_key(p.own, secret_bytes(own), &len), 1);
    secret_set_len(own, len);
    assert_string_equal(a->name, "HPKE-Base-X25519-SHA256-A256GCM");
    assert_int_equal(wrap_key(a, p.theirs, use, key, &w, NULL), 0);
    assert_int_equal(w.len, 80);
    assert_int_equal(hpke_open(own, other, none, (struct bytes){ w.data, w.len }, &got, NULL), -1);
    assert_int_equal(hpke_open(own, use, none, (struct bytes){ w.data, w.len }, &got, NULL), 0);
    assert_true(secret_equal(got, key));
    drop(&p);
}

static void refuses_what_does_not_fit(void **state)
{
    struct pair p = pair_of(EVP_PKEY_Q_keygen(NULL, NULL, "X25519"));
    AUTO_SECRET struct secret *key = storage_key(WRAP_PLAIN_MAX + 1);
    struct error err = ERROR_INIT;
    struct wrapped w;

    (void)state;
    assert_null(wrap_algorithm("RSA-OAEP"));
    assert_null(wrap_algorithm(""));
    assert_int_equal(
        wrap_key(wrap_algorithm("RSA-OAEP-256"), p.theirs, (struct bytes){ "", 0 }, key, &w, &err),
        -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(
        wrap_key(wrap_default(p.theirs), p.theirs, (struct bytes){ "", 0 }, key, &w, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    drop(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wraps_for_rsa),
        cmocka_unit_test(wraps_for_x25519),
        cmocka_unit_test(refuses_what_does_not_fit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

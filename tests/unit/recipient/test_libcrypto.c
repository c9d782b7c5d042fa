/* SPDX-License-Identifier: Apache-2.0 */
/* Each allocation of reading, wrapping and opening fails once, libcrypto's too: that is no verdict
 * on the key or on what was wrapped. */
#include "tests/support/unit.h"

#include "tests/support/nomem.h"
#include "tests/support/skip.h"
#include "tests/support/wiped_crypto.h"

#include "common/wipe.h"
#include "recipient/libcrypto.h"
#include "recipient/unwrap.h"
#include "recipient/wrap.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#define INFO ((struct bytes){ "use", 3 })

struct world {
    const struct wrap_algorithm *algorithm;
    unsigned char der[PUBLIC_KEY_DER_MAX];
    size_t der_len;
    struct secret *pem, *key;
    struct private_key *private;
    struct wrapped wrapped;
    char thumbprint[THUMBPRINT_LEN + 1], arcs[FINGERPRINT_LEN + 1];
};

static struct secret *pem_of(EVP_PKEY *own)
{
    BIO *out = BIO_new(BIO_s_mem());
    char *text = NULL;
    struct secret *pem;
    long len;

    assert_int_equal(PEM_write_bio_PrivateKey(out, own, NULL, NULL, 0, NULL, NULL), 1);
    len = BIO_get_mem_data(out, &text);
    pem = secret_new((size_t)len, NULL);
    assert_non_null(pem);
    memcpy(secret_bytes(pem), text, (size_t)len);
    secret_set_len(pem, (size_t)len);
    BIO_free(out);
    return pem;
}

static void make(struct world *w, const char *algorithm, EVP_PKEY *own)
{
    assert_non_null(own);
    *w = (struct world){ .algorithm = wrap_algorithm(algorithm), .pem = pem_of(own) };
    assert_works(private_key_parse(w->pem, &w->private, &err));
    assert_works(public_key_der(private_key_public(w->private), w->der, &w->der_len, &err));
    w->key = secret_new(32, NULL);
    assert_non_null(w->key);
    assert_int_equal(secret_random(w->key, 32, NULL), 0);
    assert_works(
        wrap_key(w->algorithm, private_key_public(w->private), INFO, w->key, &w->wrapped, &err));
    EVP_PKEY_free(own);
}

static void drop(struct world *w)
{
    private_key_free(w->private);
    secret_free(w->pem);
    secret_free(w->key);
}

static int read_public(struct world *w, struct error *err)
{
    AUTO_PUBLIC_KEY struct public_key *k = NULL;

    return public_key_parse(w->der, w->der_len, &k, err);
}

/* The right names, or none. */
static int name(struct world *w, struct error *err)
{
    const struct public_key *k = private_key_public(w->private);
    char thumbprint[THUMBPRINT_LEN + 1], arcs[FINGERPRINT_LEN + 1] = "";

    if (public_key_thumbprint(k, thumbprint, err) < 0 ||
        (public_key_kind(k) == PUBLIC_KEY_RSA && public_key_arcs_fingerprint(k, arcs, err) < 0))
        return -1;
    if (w->thumbprint[0] != '\0') {
        assert_string_equal(thumbprint, w->thumbprint);
        assert_string_equal(arcs, w->arcs);
    }
    memcpy(w->thumbprint, thumbprint, sizeof(thumbprint));
    memcpy(w->arcs, arcs, sizeof(arcs));
    return 0;
}

static int read_private(struct world *w, struct error *err)
{
    AUTO_PRIVATE_KEY struct private_key *k = NULL;

    return private_key_parse(w->pem, &k, err);
}

static int wrap(struct world *w, struct error *err)
{
    struct wrapped out;

    return wrap_key(w->algorithm, private_key_public(w->private), INFO, w->key, &out, err);
}

static int unwrap(struct world *w, struct error *err)
{
    AUTO_SECRET struct secret *key = NULL;

    return unwrap_key(w->algorithm, w->private, INFO,
                      (struct bytes){ w->wrapped.data, w->wrapped.len }, &key, err);
}

static void each_allocation(struct world *w, const char *what,
                            int (*call)(struct world *w, struct error *err))
{
    for (unsigned int n = 1;; n++) {
        struct error err = ERROR_INIT;
        int rc;

        nomem_arm(n);
        rc = call(w, &err);
        if (!nomem_disarm()) {
            assert_int_equal(rc, 0);
            assert_true(n > 1);
            return;
        }
        if (rc != 0 && err.code != ERR_EXHAUSTED)
            fail_msg("%s %s, allocation %u: %s", w->algorithm->name, what, n, err.msg);
        assert_int_equal(ERR_peek_error(), 0);
    }
}

static void test_each_allocation(void **state UNUSED)
{
    static const struct {
        const char *algorithm, *kind;
        unsigned int bits;
    } rows[] = { { "RSA-OAEP-256", "RSA", 2048 },
                 { "HPKE-Base-X25519-SHA256-A256GCM", "X25519", 0 } };

    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct world w;

        make(&w, rows[i].algorithm,
             rows[i].bits != 0 ? EVP_PKEY_Q_keygen(NULL, NULL, rows[i].kind, (size_t)rows[i].bits)
                               : EVP_PKEY_Q_keygen(NULL, NULL, rows[i].kind));
        each_allocation(&w, "reads its public key", read_public);
        each_allocation(&w, "reads its private key", read_private);
        assert_works(name(&w, &err));
        each_allocation(&w, "names its key", name);
        each_allocation(&w, "wraps", wrap);
        each_allocation(&w, "opens", unwrap);
        drop(&w);
    }
}

static int end(int rc, struct error *err)
{
    *err = (struct error)ERROR_INIT;
    if (rc < 0)
        (void)error_set(err, ERR_INVALID, "no key");
    assert_int_equal(libcrypto_end(rc, err), rc);
    assert_int_equal(ERR_peek_error(), 0);
    return rc;
}

static void test_end(void **state UNUSED)
{
    struct error err;

    libcrypto_watch();
    (void)end(-1, &err);
    assert_string_equal(err.msg, "no key");
    ERR_raise(ERR_LIB_EVP, EVP_R_BAD_DECRYPT);
    (void)end(-1, &err);
    assert_string_equal(err.msg, "no key");
    ERR_raise(ERR_LIB_EVP, ERR_R_MALLOC_FAILURE);
    ERR_raise(ERR_LIB_EVP, EVP_R_BAD_DECRYPT);
    (void)end(-1, &err);
    assert_true(error_is_memory(&err));
    ERR_raise(ERR_LIB_EVP, ERR_R_MALLOC_FAILURE);
    (void)end(0, &err);
    assert_int_equal(err.code, ERR_OK);
}

/* Then nothing is believed any more. */
static void test_a_verdict_after_it(void **state UNUSED)
{
    AUTO_PUBLIC_KEY struct public_key *k = NULL;

    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    assert_fails(public_key_parse("x", 1, &k, &err), ERR_INVALID,
                 "a public key must be one SubjectPublicKeyInfo in PEM or DER");
    nomem_arm(1);
    assert_null(wipe_malloc(1));
    (void)nomem_disarm();
    assert_fails(public_key_parse("x", 1, &k, &err), ERR_UNAVAILABLE,
                 "memory lacked before, libcrypto may be wrong: a public key must be one "
                 "SubjectPublicKeyInfo in PEM or DER");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_end),
        cmocka_unit_test(test_a_verdict_after_it),
        cmocka_unit_test(test_each_allocation),
    };

    /* as http_global_init does */
    if (!wiped_crypto())
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/certificate.h"

#include "common/deadline.h"
#include "tests/support/nomem.h"
#include "tests/support/skip.h"
#include "tests/support/tmpdir.h"
#include "tests/support/unit.h"

#include <gnutls/x509.h>
#include <time.h>
#include <unistd.h>

#define DAY        86400
#define FOREVER_MS 3600000u

/* An authority, one below it, and two servers' certificates by that one, with their keys. */
enum who { ROOT, MIDDLE, A, B, ALL };
static struct {
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t certificate;
    char pem[4096], key_pem[4096];
    uint64_t ends;
} made[ALL];

static void check(int code)
{
    if (code < 0)
        fail_msg("%s", gnutls_strerror(code));
}

static void make(enum who w, const char *name, enum who issuer, int days)
{
    static const unsigned char usage[1] = { 1 };
    const time_t now = time(NULL);
    size_t size = sizeof(made[w].pem) - 1, key_size = sizeof(made[w].key_pem) - 1;

    made[w].ends = (uint64_t)(now + days * DAY);
    check(gnutls_x509_privkey_init(&made[w].key));
    check(gnutls_x509_privkey_generate(made[w].key, GNUTLS_PK_ECDSA,
                                       GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
    check(gnutls_x509_crt_init(&made[w].certificate));
    check(gnutls_x509_crt_set_version(made[w].certificate, 3));
    check(gnutls_x509_crt_set_serial(made[w].certificate, usage, sizeof(usage)));
    check(gnutls_x509_crt_set_dn(made[w].certificate, name, NULL));
    check(gnutls_x509_crt_set_activation_time(made[w].certificate, now - DAY));
    check(gnutls_x509_crt_set_expiration_time(made[w].certificate, (time_t)made[w].ends));
    check(gnutls_x509_crt_set_key(made[w].certificate, made[w].key));
    check(gnutls_x509_crt_set_basic_constraints(made[w].certificate, w < A, -1));
    check(gnutls_x509_crt_sign2(made[w].certificate, made[issuer].certificate, made[issuer].key,
                                GNUTLS_DIG_SHA256, 0));
    check(gnutls_x509_crt_export(made[w].certificate, GNUTLS_X509_FMT_PEM, made[w].pem, &size));
    check(gnutls_x509_privkey_export(made[w].key, GNUTLS_X509_FMT_PEM, made[w].key_pem, &key_size));
}

static int setup(void **state UNUSED)
{
    make(ROOT, "CN=root", ROOT, 100);
    make(MIDDLE, "CN=middle", ROOT, 50);
    make(A, "CN=a", MIDDLE, 20);
    make(B, "CN=b", MIDDLE, 90);
    return 0;
}

static int teardown(void **state UNUSED)
{
    for (size_t i = 0; i < ALL; i++) {
        gnutls_x509_crt_deinit(made[i].certificate);
        gnutls_x509_privkey_deinit(made[i].key);
    }
    return 0;
}

/* ---- two files in a folder ---- */

struct folder {
    struct tmpdir dir;
    char chain[600], key[600];
    struct certificate_files files;
};

static void folder_remove(struct folder *f)
{
    tmpdir_remove(&f->dir);
}
#define AUTO_FOLDER __attribute__((cleanup(folder_remove)))

static void folder_make(struct folder *f)
{
    f->dir = tmpdir_make();
    (void)snprintf(f->chain, sizeof(f->chain), "%s/tls.crt", f->dir.path);
    (void)snprintf(f->key, sizeof(f->key), "%s/tls.key", f->dir.path);
    f->files = (struct certificate_files){ .chain = f->chain, .key = f->key };
}

/* As a new file, like what kubelet and certbot do. */
static void put(const struct folder *f, const char *name, const char *text)
{
    (void)unlink(tmpdir_path(&f->dir, name));
    tmpdir_write(&f->dir, name, text, strlen(text));
}

static void put_chain(const struct folder *f, enum who first, enum who second, enum who third)
{
    char text[3 * sizeof(made[0].pem)];

    (void)snprintf(text, sizeof(text), "%s%s%s", made[first].pem, made[second].pem,
                   third < ALL ? made[third].pem : "");
    put(f, "tls.crt", text);
}

static void put_pair(const struct folder *f, enum who w)
{
    put_chain(f, w, MIDDLE, ALL);
    put(f, "tls.key", made[w].key_pem);
}

/* ---- what is shown ---- */

static void assert_certificate(gnutls_pcert_st *got, enum who want)
{
    gnutls_x509_crt_t certificate;

    check(gnutls_pcert_export_x509(got, &certificate));
    assert_true(gnutls_x509_crt_equals(certificate, made[want].certificate));
    gnutls_x509_crt_deinit(certificate);
}

/* And its key signs for it. */
static void assert_shown(struct certificate *c, enum who want)
{
    gnutls_datum_t text = { .data = (unsigned char *)made[want].pem, .size = 100 }, signature;
    gnutls_pcert_st *chain = NULL;
    gnutls_privkey_t key = NULL;
    unsigned int n = 0;

    certificate_show(c, &chain, &n, &key);
    assert_int_equal(n, 2);
    assert_certificate(&chain[0], want);
    assert_certificate(&chain[1], MIDDLE);
    check(gnutls_privkey_sign_data(key, GNUTLS_DIG_SHA256, 0, &text, &signature));
    check(gnutls_pubkey_verify_data2(chain[0].pubkey, GNUTLS_SIGN_ECDSA_SHA256, 0, &text,
                                     &signature));
    gnutls_free(signature.data);
}

static void test_a_chain(void **state UNUSED)
{
    AUTO_FOLDER struct folder f;
    AUTO_CERTIFICATE struct certificate *a = NULL;
    AUTO_CERTIFICATE struct certificate *b = NULL;
    AUTO_CERTIFICATE struct certificate *alone = NULL;
    gnutls_pcert_st *chain = NULL;
    gnutls_privkey_t key = NULL;
    unsigned int n = 0;

    folder_make(&f);
    put_pair(&f, A);
    assert_works(certificate_open(&f.files, 0, &a, &err));
    assert_shown(a, A);
    assert_int_equal(certificate_expires(a), made[A].ends);
    put_chain(&f, B, ROOT, MIDDLE); /* in a wrong order */
    put(&f, "tls.key", made[B].key_pem);
    assert_works(certificate_open(&f.files, 0, &b, &err));
    certificate_show(b, &chain, &n, &key);
    assert_int_equal(n, 3);
    assert_certificate(&chain[1], MIDDLE);
    assert_certificate(&chain[2], ROOT);
    assert_int_equal(certificate_expires(b), made[MIDDLE].ends); /* the first that ends */
    put(&f, "tls.crt", made[B].pem);
    assert_works(certificate_open(&f.files, 0, &alone, &err));
    certificate_show(alone, &chain, &n, &key);
    assert_int_equal(n, 1);
}

static void test_what_is_none(void **state UNUSED)
{
    static char long_text[PEM_MAX + 2];
    AUTO_FOLDER struct folder f;

    memset(long_text, 'x', sizeof(long_text) - 1);
    folder_make(&f);
    const struct {
        const char *chain, *key, *wrong, *says;
        enum error_code code;
    } cases[] = {
        { NULL, made[A].key_pem, "open '", "/tls.crt': No such file or directory", ERR_NOT_FOUND },
        { "", made[A].key_pem, "'", "/tls.crt' is empty", ERR_INVALID },
        { long_text, made[A].key_pem, "'", "/tls.crt' is too long for a PEM file", ERR_INVALID },
        { made[A].key_pem, made[A].key_pem, "'",
          "/tls.crt' isn't a chain of certificates in PEM: No certificate was found.",
          ERR_INVALID },
        { made[A].pem, NULL, "open '", "/tls.key': No such file or directory", ERR_NOT_FOUND },
        { made[A].pem, "", "'", "/tls.key' is empty", ERR_INVALID },
        { made[A].pem, made[A].pem, "'", "/tls.key' isn't a private key in PEM: ", ERR_INVALID },
        { made[A].pem, made[B].key_pem, "'", "/tls.key' isn't the key of the certificate in '",
          ERR_INVALID },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct certificate *c = NULL;
        struct error err = ERROR_INIT;
        char want[700];

        (void)unlink(f.chain);
        (void)unlink(f.key);
        if (cases[i].chain != NULL)
            put(&f, "tls.crt", cases[i].chain);
        if (cases[i].key != NULL)
            put(&f, "tls.key", cases[i].key);
        (void)snprintf(want, sizeof(want), "%s%s%s", cases[i].wrong, f.dir.path, cases[i].says);
        assert_int_equal(certificate_open(&f.files, 0, &c, &err), -1);
        assert_null(c);
        if (strncmp(err.msg, want, strlen(want)) != 0 || err.code != cases[i].code)
            fail_msg("case %zu: %s: %s", i, error_code_name(err.code), err.msg);
        assert_null(strstr(err.msg, "PRIVATE"));
    }
}

/* ---- renewed ---- */

static void test_renewed(void **state UNUSED)
{
    AUTO_FOLDER struct folder f;
    AUTO_CERTIFICATE struct certificate *c = NULL;

    folder_make(&f);
    put_pair(&f, A);
    assert_works(certificate_open(&f.files, 0, &c, &err));
    assert_false(certificate_renew(c));
    put_pair(&f, B);
    assert_true(certificate_renew(c));
    assert_shown(c, B);
    assert_int_equal(certificate_expires(c), made[MIDDLE].ends);
    assert_false(certificate_renew(c));
    put_pair(&f, A);
    assert_true(certificate_renew(c));
    assert_shown(c, A);
}

/* What is half written, gone or wrong changes nothing, and is tried again. */
static void test_what_is_shown_stays(void **state UNUSED)
{
    AUTO_FOLDER struct folder f;
    AUTO_CERTIFICATE struct certificate *c = NULL;

    folder_make(&f);
    put_pair(&f, A);
    assert_works(certificate_open(&f.files, 0, &c, &err));
    put(&f, "tls.crt", made[B].pem); /* its key comes later */
    for (unsigned int i = 0; i < 3; i++) {
        assert_false(certificate_renew(c));
        assert_shown(c, A);
    }
    (void)unlink(f.chain);
    assert_false(certificate_renew(c));
    (void)unlink(f.key);
    assert_false(certificate_renew(c));
    assert_shown(c, A);
    put_pair(&f, B);
    assert_true(certificate_renew(c));
    assert_shown(c, B);
}

/* A handshake that has begun uses what it was shown to its end. */
static void test_what_was_shown_is_kept(void **state UNUSED)
{
    AUTO_FOLDER struct folder f;
    AUTO_CERTIFICATE struct certificate *c = NULL;
    gnutls_pcert_st *chain = NULL;
    gnutls_privkey_t key = NULL;
    unsigned int n = 0;

    folder_make(&f);
    put_pair(&f, A);
    assert_works(certificate_open(&f.files, FOREVER_MS, &c, &err));
    certificate_show(c, &chain, &n, &key);
    put_pair(&f, B);
    assert_true(certificate_renew(c));
    assert_certificate(&chain[0], A);
    put_pair(&f, A); /* there is room for one: later */
    assert_false(certificate_renew(c));
    assert_shown(c, B);
    assert_certificate(&chain[0], A);
}

/* Our own two, of the pair and of a file; libtasn1 ends the process where it has none. */
static void test_no_memory(void **state UNUSED)
{
    AUTO_FOLDER struct folder f;
    AUTO_CERTIFICATE struct certificate *c = NULL;

    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    folder_make(&f);
    put_pair(&f, A);
    assert_works(certificate_open(&f.files, 0, &c, &err));
    put_pair(&f, B);
    for (unsigned int n = 1; n <= 2; n++) {
        nomem_arm(n);
        bool renewed = certificate_renew(c);

        assert_true(nomem_disarm());
        assert_false(renewed);
        assert_shown(c, A);
    }
    assert_true(certificate_renew(c));
    assert_shown(c, B);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_chain),
        cmocka_unit_test(test_what_is_none),
        cmocka_unit_test(test_renewed),
        cmocka_unit_test(test_what_is_shown_stays),
        cmocka_unit_test(test_what_was_shown_is_kept),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}

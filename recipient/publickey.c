/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "recipient/publickey.h"

#include "common/b64.h"
#include "common/strbuf.h"
#include "recipient/libcrypto.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#define RSA_BITS_MIN  2048
#define RSA_BITS_MAX  4096
#define RSA_EXPONENT  65537u
#define RSA_BYTES_MAX (RSA_BITS_MAX / 8)
#define JWK_MAX       1024u
#define PEM_BEGIN     "-----BEGIN PUBLIC KEY-----"

struct public_key {
    EVP_PKEY *handle;
    enum public_key_kind kind;
    char fingerprint[FINGERPRINT_LEN + 1];
};

DEFINE_AUTO(evp_pkey_st, EVP_PKEY_free)
DEFINE_AUTO(bignum_st, BN_free)
#define AUTO_PKEY   __attribute__((cleanup(cleanup_evp_pkey_st)))
#define AUTO_BIGNUM __attribute__((cleanup(cleanup_bignum_st)))

/* --- reading --- */

/* Exactly one DER object. */
static EVP_PKEY *from_der(const unsigned char *der, size_t len)
{
    const unsigned char *end = der;
    EVP_PKEY *key = d2i_PUBKEY(NULL, &end, (long)len);

    if (key != NULL && end != der + len) {
        EVP_PKEY_free(key);
        return NULL;
    }
    return key;
}

/* One PEM block of this name at the very beginning, and nothing but white space behind it. */
static EVP_PKEY *from_pem(const void *text, size_t len)
{
    BIO *in = BIO_new_mem_buf(text, (int)len);
    EVP_PKEY *key =
        in != NULL ? PEM_read_bio_PUBKEY(in, NULL, libcrypto_no_passphrase, NULL) : NULL;
    char rest[256];
    int n = key != NULL ? BIO_read(in, rest, sizeof(rest)) : 0;

    for (int i = 0; i < n; i++) {
        if (strchr(" \t\r\n", rest[i]) == NULL || n == (int)sizeof(rest)) {
            EVP_PKEY_free(key);
            key = NULL;
            break;
        }
    }
    BIO_free(in);
    return key;
}

static int check_rsa(const EVP_PKEY *key, struct error *err)
{
    AUTO_BIGNUM BIGNUM *e = NULL, *n = NULL;
    int bits = EVP_PKEY_get_bits(key);

    if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX)
        return error_set(err, ERR_INVALID, "an RSA key of %d bits, where %d to %d are taken", bits,
                         RSA_BITS_MIN, RSA_BITS_MAX);
    if (!EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &e))
        return error_set(err, ERR_INVALID, "an RSA key without an exponent");
    if (!BN_is_word(e, RSA_EXPONENT))
        return error_set(err, ERR_INVALID, "an RSA key whose exponent isn't %u", RSA_EXPONENT);
    /* nothing can be encrypted for it: libcrypto says so only then */
    if (!EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &n) || !BN_is_odd(n))
        return error_set(err, ERR_INVALID, "an RSA key whose modulus is even");
    return 0;
}

static int classify(struct public_key *k, struct error *err)
{
    if (EVP_PKEY_is_a(k->handle, "X25519")) {
        k->kind = PUBLIC_KEY_X25519;
        return 0;
    }
    if (!EVP_PKEY_is_a(k->handle, "RSA"))
        return error_set(err, ERR_INVALID, "a public key that is neither RSA nor X25519");
    k->kind = PUBLIC_KEY_RSA;
    return check_rsa(k->handle, err);
}

static int sha256_hex(const void *data, size_t len, char ret[FINGERPRINT_LEN + 1])
{
    unsigned char digest[32];
    size_t n = 0;

    if (!EVP_Q_digest(NULL, "SHA256", NULL, data, len, digest, &n) || n != sizeof(digest))
        return -1;
    hex_encode(ret, digest, sizeof(digest));
    return 0;
}

int public_key_der(const struct public_key *k, unsigned char *ret, size_t *ret_len,
                   struct error *err)
{
    int len = i2d_PUBKEY(k->handle, NULL);
    unsigned char *end = ret;

    if (len <= 0 || len > (int)PUBLIC_KEY_DER_MAX || i2d_PUBKEY(k->handle, &end) != len)
        return error_set(err, ERR_INTERNAL, "libcrypto can't write a public key");
    *ret_len = (size_t)len;
    return 0;
}

static int take_fingerprint(struct public_key *k, struct error *err)
{
    unsigned char der[PUBLIC_KEY_DER_MAX];
    size_t len = 0;

    if (public_key_der(k, der, &len, err) < 0)
        return -1;
    return sha256_hex(der, len, k->fingerprint) == 0
               ? 0
               : error_set(err, ERR_INTERNAL, "libcrypto can't name a public key");
}

static int read_key(struct public_key *k, const void *data, size_t len, struct error *err)
{
    bool pem = len > strlen(PEM_BEGIN) && memcmp(data, PEM_BEGIN, strlen(PEM_BEGIN)) == 0;

    k->handle = pem ? from_pem(data, len) : from_der(data, len);
    if (k->handle == NULL)
        return error_set(err, ERR_INVALID,
                         "a public key must be one SubjectPublicKeyInfo in PEM or DER");
    return classify(k, err) < 0 ? -1 : take_fingerprint(k, err);
}

int public_key_parse(const void *data, size_t len, struct public_key **ret, struct error *err)
{
    AUTO_PUBLIC_KEY struct public_key *k = calloc(1, sizeof(*k));

    if (k == NULL)
        return error_memory(err);
    if (len == 0 || len > PUBLIC_KEY_MAX)
        return error_set(err, ERR_INVALID, "a public key of %zu bytes, where 1 to %u are taken",
                         len, PUBLIC_KEY_MAX);
    libcrypto_watch();
    if (libcrypto_end(read_key(k, data, len, err), err) < 0)
        return -1;
    *ret = TAKE_PTR(k);
    return 0;
}

void public_key_free(struct public_key *k)
{
    if (k == NULL)
        return;
    EVP_PKEY_free(k->handle);
    free(k);
}

/* --- what it is --- */

enum public_key_kind public_key_kind(const struct public_key *k)
{
    return k->kind;
}

unsigned int public_key_bits(const struct public_key *k)
{
    return (unsigned int)EVP_PKEY_get_bits(k->handle);
}

const char *public_key_fingerprint(const struct public_key *k)
{
    return k->fingerprint;
}

void *public_key_handle(const struct public_key *k)
{
    return k->handle;
}

/* --- its other names --- */

/* RFC 4648 §5 without padding. */
static void add_base64url(struct strbuf *to, const unsigned char *data, size_t len)
{
    char text[B64_LEN(RSA_BYTES_MAX) + 1];

    b64_encode(text, data, len);
    for (const char *p = text; *p != '\0' && *p != '='; p++)
        strbuf_add(to, *p == '+' ? "-" : *p == '/' ? "_" : p, 1);
}

static int add_number(struct strbuf *to, const EVP_PKEY *key, const char *name)
{
    unsigned char bytes[RSA_BYTES_MAX];
    AUTO_BIGNUM BIGNUM *n = NULL;

    if (!EVP_PKEY_get_bn_param(key, name, &n) || BN_num_bytes(n) > RSA_BYTES_MAX)
        return -1;
    add_base64url(to, bytes, (size_t)BN_bn2bin(n, bytes));
    return 0;
}

static int add_x25519(struct strbuf *to, const EVP_PKEY *key)
{
    unsigned char raw[32];
    size_t len = sizeof(raw);

    if (!EVP_PKEY_get_raw_public_key(key, raw, &len))
        return -1;
    add_base64url(to, raw, len);
    return 0;
}

/* The required members, in the order of their names, without white space. */
static int jwk(const struct public_key *k, struct strbuf *to)
{
    bool rsa = k->kind == PUBLIC_KEY_RSA;
    int r;

    strbuf_adds(to, rsa ? "{\"e\":\"" : "{\"crv\":\"X25519\",\"kty\":\"OKP\",\"x\":\"");
    r = rsa ? add_number(to, k->handle, OSSL_PKEY_PARAM_RSA_E) : add_x25519(to, k->handle);
    if (r == 0 && rsa) {
        strbuf_adds(to, "\",\"kty\":\"RSA\",\"n\":\"");
        r = add_number(to, k->handle, OSSL_PKEY_PARAM_RSA_N);
    }
    strbuf_adds(to, "\"}");
    return r;
}

static int thumbprint(const struct public_key *k, char ret[THUMBPRINT_LEN + 1], struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(JWK_MAX);
    AUTO_STRBUF struct strbuf name = STRBUF_INIT(THUMBPRINT_LEN + 1);
    unsigned char digest[32];
    size_t n = 0;

    if (jwk(k, &text) < 0)
        return error_set(err, ERR_INTERNAL, "libcrypto can't name a public key");
    if (strbuf_check(&text, "JWK", err) < 0)
        return -1;
    if (!EVP_Q_digest(NULL, "SHA256", NULL, text.buf, text.len, digest, &n))
        return error_set(err, ERR_INTERNAL, "libcrypto can't name a public key");
    add_base64url(&name, digest, sizeof(digest));
    if (strbuf_check(&name, "thumbprint", err) < 0)
        return -1;
    memcpy(ret, name.buf, THUMBPRINT_LEN + 1);
    return 0;
}

int public_key_thumbprint(const struct public_key *k, char ret[THUMBPRINT_LEN + 1],
                          struct error *err)
{
    libcrypto_watch();
    return libcrypto_end(thumbprint(k, ret, err), err);
}

static int arcs_fingerprint(const struct public_key *k, char ret[FINGERPRINT_LEN + 1],
                            struct error *err)
{
    AUTO_STRBUF struct strbuf n = STRBUF_INIT(JWK_MAX);

    if (add_number(&n, k->handle, OSSL_PKEY_PARAM_RSA_N) < 0)
        return error_set(err, ERR_INTERNAL, "libcrypto can't name a public key");
    if (strbuf_check(&n, "modulus", err) < 0) /* the name of a part of it would be another key's */
        return -1;
    return sha256_hex(n.buf, n.len, ret) < 0
               ? error_set(err, ERR_INTERNAL, "libcrypto can't name a public key")
               : 0;
}

int public_key_arcs_fingerprint(const struct public_key *k, char ret[FINGERPRINT_LEN + 1],
                                struct error *err)
{
    if (k->kind != PUBLIC_KEY_RSA)
        return error_set(err, ERR_PRECONDITION, "only an RSA key has this fingerprint");
    libcrypto_watch();
    return libcrypto_end(arcs_fingerprint(k, ret, err), err);
}

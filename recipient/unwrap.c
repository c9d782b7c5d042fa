/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "recipient/unwrap.h"

#include "recipient/libcrypto.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#define PEM_BEGIN     "-----BEGIN PRIVATE KEY-----"
#define PEM_PROTECTED "-----BEGIN ENCRYPTED PRIVATE KEY-----"

struct private_key {
    EVP_PKEY *handle;
    struct public_key *public;
};

/* --- reading --- */

static bool only_space(BIO *in)
{
    char c;

    while (BIO_read(in, &c, 1) == 1) {
        if (strchr(" \t\r\n", c) == NULL || c == '\0')
            return false;
    }
    return true;
}

/* One PEM block of that name at the very beginning, and nothing but white space behind it. */
static EVP_PKEY *from_pem(const struct secret *pem)
{
    BIO *in = BIO_new_mem_buf(secret_data(pem), (int)secret_len(pem));
    EVP_PKEY *key =
        in != NULL ? PEM_read_bio_PrivateKey(in, NULL, libcrypto_no_passphrase, NULL) : NULL;

    if (key != NULL && !only_space(in)) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    BIO_free(in);
    return key;
}

static bool begins(const struct secret *pem, const char *with)
{
    return secret_len(pem) > strlen(with) && memcmp(secret_data(pem), with, strlen(with)) == 0;
}

static int take_public(struct private_key *k, struct error *err)
{
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(k->handle, &der);
    int r = len > 0 ? public_key_parse(der, (size_t)len, &k->public, err)
                    : error_set(err, ERR_INVALID, "it has no public half");

    OPENSSL_free(der);
    return r == 0 ? 0 : error_prefix(err, "the private key can't be used");
}

static int read_key(struct private_key *k, const struct secret *pem, struct error *err)
{
    k->handle = begins(pem, PEM_BEGIN) ? from_pem(pem) : NULL;
    if (k->handle == NULL)
        return error_set(err, ERR_INVALID,
                         "a private key must be one PKCS#8 block in PEM ('openssl pkey -in FILE' "
                         "writes it so), with nothing beside it");
    return take_public(k, err);
}

int private_key_parse(const struct secret *pem, struct private_key **ret, struct error *err)
{
    AUTO_PRIVATE_KEY struct private_key *k = calloc(1, sizeof(*k));

    if (k == NULL)
        return error_memory(err);
    if (secret_len(pem) == 0 || secret_len(pem) > PRIVATE_KEY_MAX)
        return error_set(err, ERR_INVALID, "a private key of %zu bytes, where 1 to %u are taken",
                         secret_len(pem), PRIVATE_KEY_MAX);
    if (begins(pem, PEM_PROTECTED))
        return error_set(err, ERR_INVALID,
                         "the private key is protected by a passphrase: give it through a pipe, "
                         "as 'openssl pkey -in FILE' writes it");
    libcrypto_watch();
    if (libcrypto_end(read_key(k, pem, err), err) < 0)
        return -1;
    *ret = TAKE_PTR(k);
    return 0;
}

void private_key_free(struct private_key *k)
{
    if (k == NULL)
        return;
    EVP_PKEY_free(k->handle);
    public_key_free(k->public);
    free(k);
}

const struct public_key *private_key_public(const struct private_key *k)
{
    return k->public;
}

/* --- opening --- */

static int refused(const struct wrap_algorithm *a, struct error *err)
{
    return error_set(err, ERR_INVALID,
                     "this private key doesn't open what was wrapped by %s: it was wrapped for "
                     "another key or use, or was changed",
                     a->name);
}

static EVP_PKEY_CTX *oaep_context(const struct wrap_algorithm *a, EVP_PKEY *key)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);

    if (ctx != NULL && EVP_PKEY_decrypt_init(ctx) > 0 &&
        EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) > 0 &&
        EVP_PKEY_CTX_set_rsa_oaep_md_name(ctx, a->hash, NULL) > 0 &&
        EVP_PKEY_CTX_set_rsa_mgf1_md_name(ctx, a->hash, NULL) > 0)
        return ctx;
    EVP_PKEY_CTX_free(ctx);
    return NULL;
}

static int open_rsa(const struct wrap_algorithm *a, const struct private_key *own,
                    struct bytes info UNUSED, struct bytes wrapped, struct secret **ret,
                    struct error *err)
{
    EVP_PKEY_CTX *ctx = oaep_context(a, own->handle);
    AUTO_SECRET struct secret *plain = secret_new(WRAPPED_MAX, err);
    size_t len = WRAPPED_MAX;
    int r = -1;

    if (ctx == NULL)
        r = error_set(err, ERR_INTERNAL, "libcrypto can't open what was wrapped by %s", a->name);
    else if (plain != NULL)
        r = EVP_PKEY_decrypt(ctx, secret_bytes(plain), &len, wrapped.data, wrapped.len) > 0
                ? 0
                : refused(a, err);
    EVP_PKEY_CTX_free(ctx);
    if (r < 0)
        return -1;
    secret_set_len(plain, len);
    *ret = TAKE_PTR(plain);
    return 0;
}

static int open_hpke(const struct wrap_algorithm *a, const struct private_key *own,
                     struct bytes info, struct bytes wrapped, struct secret **ret,
                     struct error *err)
{
    AUTO_SECRET struct secret *raw = secret_new(HPKE_KEY_BYTES, err);
    struct error local = ERROR_INIT;
    size_t len = HPKE_KEY_BYTES;

    if (raw == NULL)
        return -1;
    if (!EVP_PKEY_get_raw_private_key(own->handle, secret_bytes(raw), &len))
        return error_set(err, ERR_INTERNAL, "libcrypto can't open what was wrapped by %s", a->name);
    secret_set_len(raw, len);
    if (hpke_open(raw, info, (struct bytes){ "", 0 }, wrapped, ret, &local) < 0)
        return local.code == ERR_INVALID ? refused(a, err) : error_pass(err, &local);
    return 0;
}

static int (*const OPENERS[])(const struct wrap_algorithm *a, const struct private_key *own,
                              struct bytes info, struct bytes wrapped, struct secret **ret,
                              struct error *err) = {
    [PUBLIC_KEY_RSA] = open_rsa,
    [PUBLIC_KEY_X25519] = open_hpke,
};

int unwrap_key(const struct wrap_algorithm *a, const struct private_key *own, struct bytes info,
               struct bytes wrapped, struct secret **ret, struct error *err)
{
    AUTO_SECRET struct secret *key = NULL;

    if (a->kind != public_key_kind(own->public))
        return error_set(err, ERR_INVALID, "%s doesn't take this kind of key", a->name);
    if (wrapped.len == 0 || wrapped.len > WRAPPED_MAX)
        return refused(a, err);
    libcrypto_watch();
    if (libcrypto_end(OPENERS[a->kind](a, own, info, wrapped, &key, err), err) < 0)
        return -1;
    if (secret_len(key) == 0 || secret_len(key) > WRAP_PLAIN_MAX)
        return refused(a, err);
    *ret = TAKE_PTR(key);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "recipient/wrap.h"

#include "recipient/libcrypto.h"

#include <openssl/evp.h>
#include <openssl/rsa.h>

static int seal_rsa(const struct wrap_algorithm *a, const struct public_key *to, struct bytes info,
                    const struct secret *key, struct wrapped *ret, struct error *err)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, public_key_handle(to), NULL);
    struct wrapped out = { .len = sizeof(out.data) };
    int ok = ctx != NULL && EVP_PKEY_encrypt_init(ctx) > 0 &&
             EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) > 0 &&
             EVP_PKEY_CTX_set_rsa_oaep_md_name(ctx, a->hash, NULL) > 0 &&
             EVP_PKEY_CTX_set_rsa_mgf1_md_name(ctx, a->hash, NULL) > 0 &&
             EVP_PKEY_encrypt(ctx, out.data, &out.len, secret_data(key), secret_len(key)) > 0;

    (void)info; /* OAEP's label would hold it, but the other side has none */
    EVP_PKEY_CTX_free(ctx);
    if (!ok)
        return error_set(err, ERR_INTERNAL, "libcrypto can't wrap a key by %s", a->name);
    *ret = out;
    return 0;
}

static int seal_hpke(const struct wrap_algorithm *a, const struct public_key *to, struct bytes info,
                     const struct secret *key, struct wrapped *ret, struct error *err)
{
    struct wrapped out = { .len = HPKE_OVERHEAD_BYTES + secret_len(key) };
    unsigned char raw[HPKE_KEY_BYTES];
    size_t len = sizeof(raw);

    if (!EVP_PKEY_get_raw_public_key(public_key_handle(to), raw, &len) || len != sizeof(raw))
        return error_set(err, ERR_INTERNAL, "libcrypto can't wrap a key by %s", a->name);
    if (hpke_seal(raw, info, (struct bytes){ "", 0 }, key, out.data, err) < 0)
        return -1;
    *ret = out;
    return 0;
}

/* The first of a kind is its default. */
static const struct wrap_algorithm ALGORITHMS[] = {
    { "RSA-OAEP-256", PUBLIC_KEY_RSA, "SHA256", seal_rsa },
    { "RSA-OAEP-512", PUBLIC_KEY_RSA, "SHA512", seal_rsa },
    { "HPKE-Base-X25519-SHA256-A256GCM", PUBLIC_KEY_X25519, NULL, seal_hpke },
};

const struct wrap_algorithm *wrap_algorithm(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(ALGORITHMS); i++) {
        if (strcmp(ALGORITHMS[i].name, name) == 0)
            return &ALGORITHMS[i];
    }
    return NULL;
}

const struct wrap_algorithm *wrap_default(const struct public_key *to)
{
    for (size_t i = 0; i < ARRAY_SIZE(ALGORITHMS); i++) {
        if (ALGORITHMS[i].kind == public_key_kind(to))
            return &ALGORITHMS[i];
    }
    abort(); /* each kind has a row */
}

int wrap_key(const struct wrap_algorithm *a, const struct public_key *to, struct bytes info,
             const struct secret *key, struct wrapped *ret, struct error *err)
{
    if (a->kind != public_key_kind(to))
        return error_set(err, ERR_INVALID, "%s doesn't take this kind of key", a->name);
    if (secret_len(key) == 0 || secret_len(key) > WRAP_PLAIN_MAX)
        return error_set(err, ERR_INVALID, "a key of %zu bytes can't be wrapped", secret_len(key));
    libcrypto_watch();
    return libcrypto_end(a->seal(a, to, info, key, ret, err), err);
}

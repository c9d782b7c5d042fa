/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "recipient/hpke.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#define ENC_BYTES   32u
#define TAG_BYTES   16u
#define HASH_BYTES  32u
#define NONCE_BYTES 12u
#define VERSION     "HPKE-v1"

/* suite_id of RFC 9180 §4.1 (the KEM's) and §5.1 (the whole suite's) */
static const unsigned char KEM_SUITE[] = { 'K', 'E', 'M', 0x00, 0x20 };
static const unsigned char SUITE[] = { 'H', 'P', 'K', 'E', 0x00, 0x20, 0x00, 0x01, 0x00, 0x02 };

/* What is derived on the way; it lies in a struct secret. */
struct schedule {
    unsigned char dh[HPKE_KEY_BYTES];
    unsigned char prk[HASH_BYTES];
    unsigned char shared[HASH_BYTES];
    unsigned char secret[HASH_BYTES];
    unsigned char key[HASH_BYTES];
    unsigned char nonce[NONCE_BYTES];
};

DEFINE_AUTO(evp_pkey_st, EVP_PKEY_free)
#define AUTO_PKEY __attribute__((cleanup(cleanup_evp_pkey_st)))

static int broken(struct error *err)
{
    return error_set(err, ERR_INTERNAL, "libcrypto can't do HPKE (X25519, SHA-256, AES-256-GCM)");
}

static struct bytes text(const char *s)
{
    return (struct bytes){ s, strlen(s) };
}

/* --- HKDF-SHA256 (RFC 5869) with labels (RFC 9180 §4); nothing here is longer than one hash --- */

static int hmac(const unsigned char *key, size_t key_len, const struct bytes *parts, size_t count,
                unsigned char ret[HASH_BYTES])
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)(uintptr_t) "SHA256", 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *ctx = mac != NULL ? EVP_MAC_CTX_new(mac) : NULL;
    size_t len = 0;
    int ok = ctx != NULL && EVP_MAC_init(ctx, key, key_len, params);

    for (size_t i = 0; ok && i < count; i++)
        ok = parts[i].len == 0 || EVP_MAC_update(ctx, parts[i].data, parts[i].len);
    ok = ok && EVP_MAC_final(ctx, ret, &len, HASH_BYTES) && len == HASH_BYTES;
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
    return ok ? 0 : -1;
}

static int extract(struct bytes suite, const unsigned char salt[HASH_BYTES], const char *label,
                   struct bytes ikm, unsigned char ret[HASH_BYTES])
{
    static const unsigned char none[HASH_BYTES]; /* RFC 5869 §2.2: no salt is a hash of zeros */
    const struct bytes parts[] = { text(VERSION), suite, text(label), ikm };

    return hmac(salt != NULL ? salt : none, HASH_BYTES, parts, ARRAY_SIZE(parts), ret);
}

static int expand(struct bytes suite, const unsigned char prk[HASH_BYTES], const char *label,
                  struct bytes info, unsigned char *ret, size_t len)
{
    const unsigned char length[2] = { 0, (unsigned char)len };
    const struct bytes parts[] = {
        { length, sizeof(length) }, text(VERSION), suite, text(label), info, { "\x01", 1 },
    };
    unsigned char block[HASH_BYTES];
    int r = hmac(prk, HASH_BYTES, parts, ARRAY_SIZE(parts), block);

    if (r == 0)
        memcpy(ret, block, len);
    OPENSSL_cleanse(block, sizeof(block));
    return r;
}

/* --- the KEM (RFC 9180 §4.1) and the key schedule (§5.1) --- */

static int exchange(EVP_PKEY *own, const unsigned char peer[HPKE_KEY_BYTES],
                    unsigned char ret[HPKE_KEY_BYTES])
{
    static const unsigned char zero[HPKE_KEY_BYTES];
    AUTO_PKEY EVP_PKEY *other =
        EVP_PKEY_new_raw_public_key_ex(NULL, "X25519", NULL, peer, HPKE_KEY_BYTES);
    EVP_PKEY_CTX *ctx = other != NULL ? EVP_PKEY_CTX_new_from_pkey(NULL, own, NULL) : NULL;
    size_t len = HPKE_KEY_BYTES;
    int ok = ctx != NULL && EVP_PKEY_derive_init(ctx) > 0 &&
             EVP_PKEY_derive_set_peer(ctx, other) > 0 && EVP_PKEY_derive(ctx, ret, &len) > 0 &&
             len == HPKE_KEY_BYTES && CRYPTO_memcmp(ret, zero, sizeof(zero)) != 0;

    EVP_PKEY_CTX_free(ctx);
    ERR_clear_error(); /* what a bad key leaves there is nobody else's */
    return ok ? 0 : -1;
}

static int derive_shared(struct schedule *s, const unsigned char enc[ENC_BYTES],
                         const unsigned char receiver[HPKE_KEY_BYTES])
{
    const struct bytes suite = { KEM_SUITE, sizeof(KEM_SUITE) };
    unsigned char context[ENC_BYTES + HPKE_KEY_BYTES];

    memcpy(context, enc, ENC_BYTES);
    memcpy(context + ENC_BYTES, receiver, HPKE_KEY_BYTES);
    if (extract(suite, NULL, "eae_prk", (struct bytes){ s->dh, sizeof(s->dh) }, s->prk) < 0)
        return -1;
    return expand(suite, s->prk, "shared_secret", (struct bytes){ context, sizeof(context) },
                  s->shared, sizeof(s->shared));
}

static int derive_keys(struct schedule *s, struct bytes info)
{
    const struct bytes suite = { SUITE, sizeof(SUITE) };
    unsigned char context[1 + 2 * HASH_BYTES] = { 0 }; /* mode_base, then two hashes */
    const struct bytes all = { context, sizeof(context) };
    const struct bytes none = { "", 0 }; /* there is no pre-shared key in base mode */

    if (extract(suite, NULL, "psk_id_hash", none, context + 1) < 0 ||
        extract(suite, NULL, "info_hash", info, context + 1 + HASH_BYTES) < 0 ||
        extract(suite, s->shared, "secret", none, s->secret) < 0 ||
        expand(suite, s->secret, "key", all, s->key, sizeof(s->key)) < 0)
        return -1;
    return expand(suite, s->secret, "base_nonce", all, s->nonce, sizeof(s->nonce));
}

/* --- AES-256-GCM; the first message's nonce is base_nonce itself --- */

static int encrypt(const struct schedule *s, struct bytes aad, const struct secret *plain,
                   unsigned char *ret)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0, len = (int)secret_len(plain);
    int ok = ctx != NULL && EVP_EncryptInit_ex2(ctx, EVP_aes_256_gcm(), s->key, s->nonce, NULL) &&
             EVP_EncryptUpdate(ctx, NULL, &n, aad.data, (int)aad.len) &&
             EVP_EncryptUpdate(ctx, ret, &n, secret_data(plain), len) && n == len &&
             EVP_EncryptFinal_ex(ctx, ret + len, &n) &&
             EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, ret + len);

    EVP_CIPHER_CTX_free(ctx);
    return ok ? 0 : -1;
}

static int decrypt(const struct schedule *s, struct bytes aad, struct bytes sealed,
                   struct secret *ret)
{
    const unsigned char *tag = (const unsigned char *)sealed.data + sealed.len - TAG_BYTES;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0, len = (int)(sealed.len - TAG_BYTES);
    int ok = ctx != NULL && EVP_DecryptInit_ex2(ctx, EVP_aes_256_gcm(), s->key, s->nonce, NULL) &&
             EVP_DecryptUpdate(ctx, NULL, &n, aad.data, (int)aad.len) &&
             EVP_DecryptUpdate(ctx, secret_bytes(ret), &n, sealed.data, len) && n == len &&
             EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, (void *)(uintptr_t)tag) &&
             EVP_DecryptFinal_ex(ctx, secret_bytes(ret) + len, &n);

    EVP_CIPHER_CTX_free(ctx);
    ERR_clear_error();
    return ok ? 0 : -1;
}

/* --- one message --- */

static struct secret *schedule_new(struct error *err)
{
    struct secret *s = secret_new(sizeof(struct schedule), err);

    if (s != NULL)
        secret_set_len(s, sizeof(struct schedule));
    return s;
}

static int seal(EVP_PKEY *own, const unsigned char public_key[HPKE_KEY_BYTES], struct bytes info,
                struct bytes aad, const struct secret *plain, unsigned char *ret, struct error *err)
{
    AUTO_SECRET struct secret *room = schedule_new(err);
    unsigned char enc[ENC_BYTES];
    struct schedule *s;
    size_t len = sizeof(enc);

    if (room == NULL)
        return -1;
    s = (struct schedule *)secret_bytes(room);
    if (!EVP_PKEY_get_raw_public_key(own, enc, &len) || len != sizeof(enc))
        return broken(err);
    if (exchange(own, public_key, s->dh) < 0)
        return error_set(err, ERR_INVALID, "no secret can be agreed on with this X25519 key");
    if (derive_shared(s, enc, public_key) < 0 || derive_keys(s, info) < 0 ||
        encrypt(s, aad, plain, ret + ENC_BYTES) < 0)
        return broken(err);
    memcpy(ret, enc, sizeof(enc));
    return 0;
}

int hpke_seal(const unsigned char public_key[HPKE_KEY_BYTES], struct bytes info, struct bytes aad,
              const struct secret *plain, unsigned char *ret, struct error *err)
{
    AUTO_PKEY EVP_PKEY *own = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");

    return own != NULL ? seal(own, public_key, info, aad, plain, ret, err) : broken(err);
}

int hpke_seal_with(const struct secret *ephemeral, const unsigned char public_key[HPKE_KEY_BYTES],
                   struct bytes info, struct bytes aad, const struct secret *plain,
                   unsigned char *ret, struct error *err)
{
    AUTO_PKEY EVP_PKEY *own = EVP_PKEY_new_raw_private_key_ex(
        NULL, "X25519", NULL, secret_data(ephemeral), secret_len(ephemeral));

    return own != NULL ? seal(own, public_key, info, aad, plain, ret, err) : broken(err);
}

static int unseal(EVP_PKEY *own, struct schedule *s, struct bytes info, struct bytes aad,
                  struct bytes sealed, struct secret *ret, struct error *err)
{
    const unsigned char *enc = sealed.data;
    const struct bytes box = { enc + ENC_BYTES, sealed.len - ENC_BYTES };
    unsigned char public_key[HPKE_KEY_BYTES];
    size_t len = sizeof(public_key);

    if (!EVP_PKEY_get_raw_public_key(own, public_key, &len) || len != sizeof(public_key))
        return broken(err);
    if (exchange(own, enc, s->dh) < 0)
        return error_set(err, ERR_INVALID, "the sealed message's ephemeral key is none");
    if (derive_shared(s, enc, public_key) < 0 || derive_keys(s, info) < 0)
        return broken(err);
    if (decrypt(s, aad, box, ret) < 0)
        return error_set(err, ERR_INVALID, "the sealed message isn't for this key and use");
    secret_set_len(ret, box.len - TAG_BYTES);
    return 0;
}

int hpke_open(const struct secret *private_key, struct bytes info, struct bytes aad,
              struct bytes sealed, struct secret **ret, struct error *err)
{
    AUTO_SECRET struct secret *room = schedule_new(err);
    AUTO_SECRET struct secret *plain = NULL;
    AUTO_PKEY EVP_PKEY *own = NULL;

    if (room == NULL)
        return -1;
    if (sealed.len <= HPKE_OVERHEAD_BYTES || sealed.len > KIB(64))
        return error_set(err, ERR_INVALID, "a sealed message of %zu bytes is none", sealed.len);
    own = EVP_PKEY_new_raw_private_key_ex(NULL, "X25519", NULL, secret_data(private_key),
                                          secret_len(private_key));
    plain = secret_new(sealed.len - HPKE_OVERHEAD_BYTES, err);
    if (plain == NULL)
        return -1;
    if (own == NULL)
        return error_set(err, ERR_INVALID, "an X25519 key has %u bytes", HPKE_KEY_BYTES);
    if (unseal(own, (struct schedule *)secret_bytes(room), info, aad, sealed, plain, err) < 0)
        return -1;
    *ret = TAKE_PTR(plain);
    return 0;
}

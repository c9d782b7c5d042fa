/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/driver_stub_session.h"

#ifdef COFFER_FAULT

#include "common/b64.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <time.h>

#define MAGIC       "coffer/v1c"
#define MAGIC_LEN   10u
#define KEY_LEN     32u
#define BINDING_AT  (MAGIC_LEN + KEY_LEN)
#define EXPIRY_AT   (BINDING_AT + 32u)
#define FRAME_LEN   (EXPIRY_AT + 8u)
#define SESSION_MAX 512u

static EVP_PKEY *load(const char *path)
{
    FILE *f = fopen(path, "re");
    EVP_PKEY *key = f != NULL ? PEM_read_PrivateKey(f, NULL, NULL, NULL) : NULL;

    if (f != NULL)
        (void)fclose(f);
    return key;
}

static bool decrypt(EVP_PKEY *key, const unsigned char *from, size_t len, unsigned char *to,
                    size_t *to_len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    bool ok = ctx != NULL && EVP_PKEY_decrypt_init(ctx) > 0 &&
              EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) > 0 &&
              EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha256()) > 0 &&
              EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_sha256()) > 0 &&
              EVP_PKEY_decrypt(ctx, to, to_len, from, len) > 0;

    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static void add(EVP_MD_CTX *sha, const void *data, size_t len)
{
    const unsigned char size[4] = { 0, 0, (unsigned char)(len >> 8), (unsigned char)len };

    EVP_DigestUpdate(sha, size, sizeof(size));
    EVP_DigestUpdate(sha, data, len);
}

static bool binding_fits(const unsigned char *frame, const struct cloud *c,
                         const struct cloud_session *s)
{
    unsigned char digest[32];
    EVP_MD_CTX *sha = EVP_MD_CTX_new();

    if (sha == NULL || EVP_DigestInit_ex(sha, EVP_sha256(), NULL) <= 0)
        return false;
    add(sha, MAGIC, MAGIC_LEN);
    add(sha, c->volume, strlen(c->volume));
    add(sha, c->uuid, strlen(c->uuid));
    add(sha, s->fingerprint, strlen(s->fingerprint));
    add(sha, frame + EXPIRY_AT, 8);
    EVP_DigestFinal_ex(sha, digest, NULL);
    EVP_MD_CTX_free(sha);
    return memcmp(digest, frame + BINDING_AT, sizeof(digest)) == 0;
}

static bool commitment_fits(const unsigned char *frame, const struct cloud *c,
                            const char *commitment)
{
    char text[64], hex[65];
    unsigned char mac[32];
    int len = snprintf(text, sizeof(text), "coffer/v1 commit%s", c->uuid);

    HMAC(EVP_sha256(), frame + MAGIC_LEN, KEY_LEN, (unsigned char *)text, (size_t)len, mac, NULL);
    hex_encode(hex, mac, sizeof(mac));
    return strcmp(hex, commitment) == 0;
}

static bool is_over(const unsigned char *frame)
{
    uint64_t expiry = 0;

    for (size_t i = 0; i < 8; i++)
        expiry = expiry << 8 | frame[EXPIRY_AT + i];
    return expiry < (uint64_t)time(NULL);
}

int stub_session_check(const char *key_path, const struct cloud *c, const struct cloud_session *s,
                       const char *commitment, struct error *err)
{
    unsigned char sealed[SESSION_MAX], frame[SESSION_MAX];
    size_t sealed_len = 0, len = sizeof(frame);
    EVP_PKEY *key = load(key_path);
    bool opened;

    opened = key != NULL &&
             b64_decode(sealed, sizeof(sealed), s->session, strlen(s->session), &sealed_len) == 0 &&
             decrypt(key, sealed, sealed_len, frame, &len) && len == FRAME_LEN &&
             memcmp(frame, MAGIC, MAGIC_LEN) == 0;
    EVP_PKEY_free(key);
    if (!opened || !binding_fits(frame, c, s) || !commitment_fits(frame, c, commitment))
        return error_set(err, ERR_INVALID, "the session isn't of this volume, device and key");
    if (is_over(frame))
        return error_set(err, ERR_PRECONDITION, "the session is over");
    return 0;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/keys.h"

#include "common/b64.h"
#include "common/deadline.h"
#include "common/parse.h"
#include "common/strbuf.h"
#include "keyd/frame.h"

#include <endian.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <poll.h>
#include <unistd.h>

#define INFO_PASSPHRASE "coffer/v1 luks2 keyslot"
#define INFO_RECORD     "coffer/v1 record"
#define DERIVED_BYTES   32u

/* --- the frame --- */

static int wait_readable(int fd, uint64_t deadline, struct error *err)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    int r = poll(&p, 1, deadline_poll_timeout(deadline));

    if (r < 0 && errno != EINTR)
        return error_errno(err, errno, "wait for the storage key");
    if (r <= 0 && deadline_left(deadline) == 0)
        return error_set(err, ERR_DEADLINE, "no storage key came in time");
    return r > 0 ? 1 : 0;
}

static int read_whole(int fd, uint64_t deadline, struct secret *to, struct error *err)
{
    const size_t want = sizeof(struct key_frame);
    size_t have = 0;

    while (have < want) {
        int ready = wait_readable(fd, deadline, err);
        ssize_t n;

        if (ready < 0)
            return -1;
        if (ready == 0)
            continue;
        n = read(fd, secret_bytes(to) + have, want - have);
        if (n == 0)
            return error_set(err, ERR_UNAVAILABLE,
                             "the storage key's pipe ended after %zu of %zu bytes", have, want);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return error_errno(err, errno, "read the storage key");
        have += n > 0 ? (size_t)n : 0;
    }
    secret_set_len(to, want);
    return 0;
}

int key_read_frame(int fd, uint64_t deadline, struct secret **ret, struct error *err)
{
    AUTO_SECRET struct secret *raw = secret_new(sizeof(struct key_frame), err);
    AUTO_SECRET struct secret *key = NULL;
    const struct key_frame *f;

    if (raw == NULL || read_whole(fd, deadline, raw, err) < 0)
        return -1;
    f = (const struct key_frame *)secret_data(raw);
    if (le32toh(f->magic) != KEY_FRAME_MAGIC || f->reserved != 0)
        return error_set(err, ERR_INVALID, "what came through the key pipe isn't a key frame");
    if (le32toh(f->status) != KEY_FRAME_OK)
        return error_set(err, ERR_UNAVAILABLE, "the key pipe brought status %u instead of a key",
                         le32toh(f->status));
    if (le32toh(f->length) != KEY_BYTES)
        return error_set(err, ERR_INVALID, "the key frame holds %u bytes instead of %u",
                         le32toh(f->length), KEY_BYTES);
    key = secret_new(KEY_BYTES, err);
    if (key == NULL)
        return -1;
    memcpy(secret_bytes(key), f->key, KEY_BYTES);
    secret_set_len(key, KEY_BYTES);
    *ret = TAKE_PTR(key);
    return 0;
}

/* --- derivations --- */

static int uuid_bytes(const char *uuid, unsigned char ret[16], struct error *err)
{
    char hex[33];
    size_t n = 0;

    if (!uuid_valid(uuid))
        return error_set(err, ERR_INVALID, "'%.40s' is not a uuid", uuid);
    for (const char *p = uuid; *p != '\0'; p++) {
        if (*p != '-')
            hex[n++] = *p;
    }
    hex[n] = '\0';
    return hex_decode(ret, hex, 16) < 0 ? error_set(err, ERR_INVALID, "'%s' is not a uuid", uuid)
                                        : 0;
}

static int hkdf(const struct secret *sk, const unsigned char salt[16], const char *info,
                unsigned char *out)
{
    /* OSSL_PARAM isn't const-correct: the library doesn't write through these */
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t) "SHA256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)secret_data(sk),
                                          secret_len(sk)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)(uintptr_t)salt, 16),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)info,
                                          strlen(info)),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
    int ok = ctx != NULL ? EVP_KDF_derive(ctx, out, DERIVED_BYTES, params) : 0;

    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return ok > 0 ? 0 : -1;
}

static int derive(const struct secret *sk, const char *uuid, const char *info, struct secret **ret,
                  struct error *err)
{
    AUTO_SECRET struct secret *out = NULL;
    unsigned char salt[16];

    if (secret_len(sk) != KEY_BYTES)
        return error_set(err, ERR_INVALID, "a storage key has %u bytes, not %zu", KEY_BYTES,
                         secret_len(sk));
    if (uuid_bytes(uuid, salt, err) < 0)
        return -1;
    out = secret_new(DERIVED_BYTES, err);
    if (out == NULL)
        return -1;
    if (hkdf(sk, salt, info, secret_bytes(out)) < 0)
        return error_set(err, ERR_INTERNAL, "libcrypto can't derive a key by HKDF-SHA256");
    secret_set_len(out, DERIVED_BYTES);
    *ret = TAKE_PTR(out);
    return 0;
}

int key_passphrase(const struct secret *sk, const char *uuid, struct secret **ret,
                   struct error *err)
{
    AUTO_SECRET struct secret *raw = NULL;
    AUTO_SECRET struct secret *hex = NULL;

    if (derive(sk, uuid, INFO_PASSPHRASE, &raw, err) < 0)
        return -1;
    hex = secret_new(2 * DERIVED_BYTES, err);
    if (hex == NULL || secret_hex(hex, raw, err) < 0)
        return -1;
    *ret = TAKE_PTR(hex);
    return 0;
}

static int record_mac(const struct secret *sk, const struct record *r, unsigned char ret[32],
                      struct error *err)
{
    AUTO_SECRET struct secret *key = NULL;
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(RECORD_MAX);
    unsigned int len = 0;

    if (derive(sk, r->uuid, INFO_RECORD, &key, err) < 0 || record_mac_input(r, &text, err) < 0)
        return -1;
    if (HMAC(EVP_sha256(), secret_data(key), (int)secret_len(key), (const unsigned char *)text.buf,
             text.len, ret, &len) == NULL ||
        len != 32)
        return error_set(err, ERR_INTERNAL, "libcrypto can't compute HMAC-SHA256");
    return 0;
}

int key_record_mac(const struct secret *sk, const struct record *r, char ret[65], struct error *err)
{
    unsigned char mac[32];

    if (record_mac(sk, r, mac, err) < 0)
        return -1;
    hex_encode(ret, mac, sizeof(mac));
    return 0;
}

int key_verify_record(const struct secret *sk, const struct record *r, struct error *err)
{
    unsigned char mac[32], claimed[32];

    if (strlen(r->mac) != 64 || hex_decode(claimed, r->mac, sizeof(claimed)) < 0)
        return error_set(err, ERR_DATA_LOSS, "the record of volume '%s' carries no MAC", r->id);
    if (record_mac(sk, r, mac, err) < 0)
        return -1;
    if (CRYPTO_memcmp(mac, claimed, sizeof(mac)) != 0)
        return error_set(
            err, ERR_DATA_LOSS,
            "the record of volume '%s' was changed: its MAC doesn't fit the storage key", r->id);
    return 0;
}

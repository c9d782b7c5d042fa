/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "device/volume.h"

#include "common/parse.h"
#include "recipient/wrap.h"
#include "volume/session.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

static int random_key(struct secret **ret, struct error *err)
{
    AUTO_SECRET struct secret *key = secret_new(SESSION_KEY_SIZE, err);

    if (key == NULL || secret_random(key, SESSION_KEY_SIZE, err) < 0)
        return -1;
    *ret = TAKE_PTR(key);
    return 0;
}

int device_commitment(const struct secret *key, const char *uuid,
                      char ret[DEVICE_COMMITMENT_LEN + 1], struct error *err)
{
    unsigned char text[COMMIT_TEXT_SIZE], mac[EVP_MAX_MD_SIZE];
    unsigned int len = 0;

    if (!uuid_valid(uuid))
        return error_set(err, ERR_INVALID, "'%.64s' is not a volume's uuid", uuid);
    session_commit_text(uuid, text);
    if (HMAC(EVP_sha256(), secret_data(key), (int)secret_len(key), text, sizeof(text), mac, &len) ==
        NULL) {
        ERR_clear_error();
        return error_set(err, ERR_INTERNAL, "HMAC-SHA256 fails");
    }
    hex_encode(ret, mac, len);
    return 0;
}

int device_volume_new(const struct device_key *k, struct device_volume *ret,
                      struct secret **ret_key, struct error *err)
{
    AUTO_SECRET struct secret *key = NULL;
    struct device_volume v;

    if (uuid_random(v.uuid) < 0)
        return error_set(err, ERR_INTERNAL, "there is no randomness");
    if (random_key(&key, err) < 0 || device_commitment(key, v.uuid, v.commitment, err) < 0 ||
        device_wrap(DEVICE_ALGORITHM, device_key_public(k), key, v.wrapped, err) < 0)
        return -1;
    *ret = v;
    *ret_key = TAKE_PTR(key);
    return 0;
}

/* --- lending --- */

static void put_be64(unsigned char to[8], uint64_t v)
{
    for (size_t i = 8; i-- > 0; v >>= 8)
        to[i] = (unsigned char)v;
}

static const char *algorithm_by_hash(const char *hash)
{
    static const struct {
        const char *hash, *algorithm;
    } rows[] = { { "SHA-256", "RSA-OAEP-256" }, { "SHA-512", "RSA-OAEP-512" } };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if (strcmp(rows[i].hash, hash) == 0)
            return rows[i].algorithm;
    }
    return NULL;
}

int device_lend(const struct device_key *k, const struct secret *key,
                const struct device_lending *to, char ret[DEVICE_WRAPPED_SIZE], struct error *err)
{
    const char *algorithm = algorithm_by_hash(to->server.hash);
    AUTO_SECRET struct secret *plain = secret_new(sizeof(struct session_frame), err);

    if (plain == NULL)
        return -1;
    if (algorithm == NULL)
        return error_set(err, ERR_INVALID, "the server's key is for an unknown hash, '%.32s'",
                         to->server.hash);
    if (secret_len(key) != SESSION_KEY_SIZE)
        return error_set(err, ERR_INVALID, "a storage key has %u bytes, not %zu", SESSION_KEY_SIZE,
                         secret_len(key));
    struct session_frame *f = (struct session_frame *)(void *)secret_bytes(plain);
    memcpy(f->magic, SESSION_MAGIC, sizeof(f->magic));
    memcpy(f->key, secret_data(key), SESSION_KEY_SIZE);
    put_be64(f->expiry, to->expiry);
    session_bind(to->volume_id, to->uuid, device_key_fingerprint(k), f->expiry, f->binding);
    secret_set_len(plain, sizeof(*f));
    return device_wrap(algorithm, to->server.public_key, plain, ret, err) < 0
               ? error_prefix(err, "encrypt a session for the server's key")
               : 0;
}

/* --- a new key --- */

void device_new_key_clear(struct device_new_key *n)
{
    free(n->forms);
    *n = (struct device_new_key){ .forms = NULL };
}

static int wrap_one(const struct device_stays *to, const struct secret *key,
                    struct device_form *ret, struct error *err)
{
    struct device_public p;

    if (device_public_parse(to->public_key, strlen(to->public_key), &p, err) < 0)
        return -1;
    (void)snprintf(ret->fingerprint, sizeof(ret->fingerprint), "%s", p.fingerprint);
    return device_wrap(to->algorithm, to->public_key, key, ret->wrapped, err);
}

int device_new_key_make(const struct device_key *k, const struct device_lending *to,
                        const struct device_stays *stay, size_t n, struct device_new_key *ret,
                        struct error *err)
{
    AUTO_DEVICE_NEW_KEY struct device_new_key made = { .n_forms = n };
    AUTO_SECRET struct secret *key = NULL;

    made.forms = calloc(n, sizeof(*made.forms));
    if (made.forms == NULL)
        return error_memory(err);
    if (random_key(&key, err) < 0 || device_commitment(key, to->uuid, made.commitment, err) < 0 ||
        device_lend(k, key, to, made.session, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (wrap_one(&stay[i], key, &made.forms[i], err) < 0)
            return -1;
    }
    *ret = made;
    made.forms = NULL;
    return 0;
}

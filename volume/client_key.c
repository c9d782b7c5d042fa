/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/client_key.h"

#include "common/b64.h"
#include "common/parse.h"
#include "common/strbuf.h"
#include "volume/forms.h"

static const char *find(const struct param *secrets, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(secrets[i].key, key) == 0)
            return secrets[i].value;
    return NULL;
}

static int need(const struct param *secrets, size_t n, const char *key, const char **ret,
                struct error *err)
{
    *ret = find(secrets, n, key);
    if (*ret == NULL)
        return error_set(
            err, ERR_INVALID,
            "secret '%s' is missing: with keySource client the user's device makes the "
            "key, and says so in CreateVolume's secrets",
            key);
    return 0;
}

/* 8-4-4-4-12 digits: the version leads the third group, the variant the fourth. */
static bool uuid_random_valid(const char *text)
{
    return uuid_valid(text) && text[14] == '4' && strchr("89ab", text[19]) != NULL;
}

static int read_bytes(const struct param *secrets, size_t n, const char *key, unsigned char *ret,
                      size_t size, size_t *ret_len, struct error *err)
{
    const char *text;

    if (need(secrets, n, key, &text, err) < 0)
        return -1;
    if (b64_decode(ret, size, text, strlen(text), ret_len) < 0 || *ret_len == 0)
        return error_set(err, ERR_INVALID,
                         "secret '%s' must be base64 of 1 to %zu bytes, without line ends", key,
                         size);
    return 0;
}

static int check_wrapped(const struct recipient *r, struct error *err)
{
    if (form_fits(r))
        return 0;
    return error_set(err, ERR_INVALID,
                     "secret 'wrapped' has %zu bytes, which no key wrapped by %s has",
                     r->wrapped_len, r->algorithm);
}

static int read_device(const struct param *secrets, size_t n, struct recipient *ret,
                       struct error *err)
{
    const char *algorithm, *label = find(secrets, n, "label");

    if (need(secrets, n, "algorithm", &algorithm, err) < 0)
        return -1;
    if (!recipient_algorithm_known(algorithm) ||
        str_copy(ret->algorithm, sizeof(ret->algorithm), algorithm) < 0)
        return error_set(err, ERR_INVALID,
                         "secret 'algorithm' must be RSA-OAEP-256, RSA-OAEP-512 or "
                         "HPKE-Base-X25519-SHA256-A256GCM");
    if (label != NULL &&
        (!recipient_label_valid(label) || str_copy(ret->label, sizeof(ret->label), label) < 0))
        return error_set(err, ERR_INVALID,
                         "secret 'label' must be UTF-8 of at most %d bytes, without control "
                         "characters",
                         RECIPIENT_LABEL_MAX);
    if (read_bytes(secrets, n, "publicKey", ret->key, sizeof(ret->key), &ret->key_len, err) < 0)
        return -1;
    if (!form_is_der(ret->key, ret->key_len))
        return error_set(err, ERR_INVALID,
                         "secret 'publicKey' must be a SubjectPublicKeyInfo in DER, as base64");
    if (read_bytes(secrets, n, "wrapped", ret->wrapped, sizeof(ret->wrapped), &ret->wrapped_len,
                   err) < 0)
        return -1;
    return check_wrapped(ret, err);
}

static int keep_device(const struct recipient *device, struct client_key *key, struct error *err)
{
    struct recipient_list list = { .n = 0 };

    if (recipients_add(&list, device, err) < 0 || recipients_encode(&list, key->device, err) < 0)
        return -1;
    return str_copy(key->fingerprint, sizeof(key->fingerprint), list.items[0].fingerprint);
}

int client_key_decode(const struct param *secrets, size_t n, struct client_key *ret,
                      struct error *err)
{
    struct client_key key = { .uuid = "" };
    struct recipient device = { .key_len = 0 };
    const char *uuid, *commitment;

    if (need(secrets, n, "uuid", &uuid, err) < 0 ||
        need(secrets, n, "commitment", &commitment, err) < 0)
        return -1;
    if (!uuid_random_valid(uuid) || str_copy(key.uuid, sizeof(key.uuid), uuid) < 0)
        return error_set(err, ERR_INVALID,
                         "secret 'uuid' must be a random uuid (version 4) in lower case");
    if (!hex_lower_valid(commitment, COMMITMENT_LEN) ||
        str_copy(key.commitment, sizeof(key.commitment), commitment) < 0)
        return error_set(err, ERR_INVALID, "secret 'commitment' must be %u lower-case hex digits",
                         COMMITMENT_LEN);
    if (read_device(secrets, n, &device, err) < 0 || keep_device(&device, &key, err) < 0)
        return -1;
    *ret = key;
    return 0;
}

static bool has_device(struct recipient_list *list, const struct recipient *device,
                       const char *fingerprint)
{
    const struct recipient *found = recipients_find(list, fingerprint);

    return found != NULL && strcmp(found->algorithm, device->algorithm) == 0 &&
           strcmp(found->label, device->label) == 0 && found->wrapped_len == device->wrapped_len &&
           memcmp(found->wrapped, device->wrapped, found->wrapped_len) == 0;
}

int client_key_differs(const struct client_key *key, const struct record *r, const char **ret,
                       struct error *err)
{
    const char *commitment = record_commitment(r);
    struct recipient_list mine, theirs;

    if (recipients_decode(key->device, &mine, err) < 0 ||
        recipients_decode(r->recipients, &theirs, err) < 0)
        return -1;
    *ret = NULL;
    if (strcmp(key->uuid, r->uuid) != 0)
        *ret = "uuid";
    else if (commitment[0] != '\0' && strcmp(key->commitment, commitment) != 0)
        *ret = "commitment";
    else if (!has_device(&theirs, &mine.items[0], key->fingerprint))
        *ret = "device key or wrapped key";
    return 0;
}

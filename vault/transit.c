/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "vault/transit.h"

#include "common/b64.h"
#include "common/parse.h"

#define CONTEXT_MAX     64u
#define CIPHERTEXT_HEAD "vault:v"

json_t *transit_create_body(void)
{
    return json_pack("{s:s, s:b}", "type", "aes256-gcm96", "derived", 1);
}

/* obj NULL: stays so. Takes it when it fails. */
static json_t *add_context(json_t *obj, const unsigned char *context, size_t len)
{
    char text[B64_LEN(CONTEXT_MAX) + 1];

    if (obj == NULL || context == NULL)
        return obj;
    if (len <= CONTEXT_MAX) {
        b64_encode(text, context, len);
        if (json_object_set_new(obj, "context", json_string(text)) == 0)
            return obj;
    }
    json_decref(obj);
    return NULL;
}

/* "bits" is left at its default, 256: a policy can list the parameters that may be sent, and no
 * list of numbers lets one through. */
json_t *transit_datakey_body(const unsigned char *context, size_t len)
{
    return add_context(json_object(), context, len);
}

json_t *transit_decrypt_body(const char *ciphertext, const unsigned char *context, size_t len)
{
    return add_context(json_pack("{s:s}", "ciphertext", ciphertext), context, len);
}

json_t *transit_rewrap_body(const char *ciphertext, const unsigned char *context, size_t len)
{
    return transit_decrypt_body(ciphertext, context, len);
}

/* Both: Vault trims no key that may still encrypt with an old version. */
json_t *transit_minimum_body(uint64_t version)
{
    return json_pack("{s:I, s:I}", "min_decryption_version", (json_int_t)version,
                     "min_encryption_version", (json_int_t)version);
}

json_t *transit_trim_body(uint64_t version)
{
    return json_pack("{s:I}", "min_available_version", (json_int_t)version);
}

static uint64_t number(const json_t *data, const char *field)
{
    json_int_t n = json_integer_value(json_object_get(data, field));

    return n < 0 ? 0 : (uint64_t)n;
}

int transit_key_read(const json_t *data, struct transit_key *ret, struct error *err)
{
    const struct transit_key key = { .latest = number(data, "latest_version"),
                                     .min_decryption = number(data, "min_decryption_version"),
                                     .min_encryption = number(data, "min_encryption_version"),
                                     .min_available = number(data, "min_available_version") };

    if (key.latest == 0 || key.min_decryption > key.latest || key.min_available > key.latest)
        return error_set(err, ERR_UNAVAILABLE, "Vault's answer says nothing of a key's versions");
    *ret = key;
    return 0;
}

int64_t transit_key_made(const json_t *data, uint64_t version)
{
    char name[24];

    (void)snprintf(name, sizeof(name), "%llu", (unsigned long long)version);
    return json_integer_value(json_object_get(json_object_get(data, "keys"), name));
}

int transit_ciphertext_version(const char *ciphertext, uint64_t *ret)
{
    const char *digits = ciphertext + strlen(CIPHERTEXT_HEAD);
    char text[16];

    if (strncmp(ciphertext, CIPHERTEXT_HEAD, strlen(CIPHERTEXT_HEAD)) != 0)
        return -1;
    size_t len = strcspn(digits, ":");
    if (len == 0 || len >= sizeof(text) || digits[len] != ':' || digits[len + 1] == '\0')
        return -1;
    memcpy(text, digits, len);
    text[len] = '\0';
    return parse_u64(text, ret);
}

static const char *data_text(const json_t *body, const char *key)
{
    return json_string_value(json_object_get(json_object_get(body, "data"), key));
}

int transit_ciphertext(const json_t *body, const char **ret, struct error *err)
{
    const char *text = data_text(body, "ciphertext");

    if (text == NULL)
        return error_set(err, ERR_UNAVAILABLE, "Vault's answer holds no wrapped key");
    *ret = text;
    return 0;
}

/* ERR_PRECONDITION: it isn't base64 of 1 to `size` bytes. */
static int read_plaintext(const json_t *body, size_t size, struct secret **ret, struct error *err)
{
    const char *text = data_text(body, "plaintext");
    size_t len = 0;

    if (text == NULL)
        return error_set(err, ERR_UNAVAILABLE, "Vault's answer holds no key");
    AUTO_SECRET struct secret *plain = secret_new(size, err);
    if (plain == NULL)
        return -1;
    if (b64_decode(secret_bytes(plain), size, text, strlen(text), &len) < 0)
        return error_set(err, ERR_PRECONDITION, "what Vault unwrapped isn't 1 to %zu bytes", size);
    secret_set_len(plain, len);
    *ret = TAKE_PTR(plain);
    return 0;
}

int transit_plaintext(const json_t *body, struct secret **ret, struct error *err)
{
    AUTO_SECRET struct secret *key = NULL;

    if (read_plaintext(body, TRANSIT_KEY_BYTES, &key, err) < 0)
        return -1;
    if (secret_len(key) != TRANSIT_KEY_BYTES)
        return error_set(err, ERR_PRECONDITION, "what Vault unwrapped is no key of %u bytes",
                         TRANSIT_KEY_BYTES);
    *ret = TAKE_PTR(key);
    return 0;
}

/* ---- RSA keys ---- */

json_t *transit_create_rsa_body(void)
{
    return json_pack("{s:s, s:b, s:b}", "type", "rsa-3072", "exportable", 0,
                     "allow_plaintext_backup", 0);
}

json_t *transit_open_body(const unsigned char *sealed, size_t len, uint64_t version)
{
    char text[sizeof(CIPHERTEXT_HEAD) + 24 + B64_LEN(TRANSIT_SEALED_MAX)];
    int n = snprintf(text, sizeof(text), CIPHERTEXT_HEAD "%llu:", (unsigned long long)version);

    if (n < 0 || len > TRANSIT_SEALED_MAX)
        return NULL;
    b64_encode(text + n, sealed, len);
    return json_pack("{s:s}", "ciphertext", text);
}

int transit_opened(const json_t *body, struct secret **ret, struct error *err)
{
    return read_plaintext(body, TRANSIT_OPENED_MAX, ret, err);
}

int transit_public_key(const json_t *body, uint64_t *ret_version, const char **ret_pem,
                       struct error *err)
{
    const json_t *data = json_object_get(body, "data");
    const char *type = json_string_value(json_object_get(data, "type"));
    struct transit_key key;
    char name[24];

    if (transit_key_read(data, &key, err) < 0)
        return -1;
    if (type == NULL || strncmp(type, "rsa-", 4) != 0)
        return error_set(err, ERR_PRECONDITION, "the server key in Vault is not an RSA key");
    if (json_is_true(json_object_get(data, "exportable")) ||
        json_is_true(json_object_get(data, "allow_plaintext_backup")))
        return error_set(err, ERR_PRECONDITION,
                         "the server key in Vault may be taken out of it: it needs another one");
    (void)snprintf(name, sizeof(name), "%llu", (unsigned long long)key.latest);
    const json_t *version = json_object_get(json_object_get(data, "keys"), name);
    const char *pem = json_string_value(json_object_get(version, "public_key"));
    if (pem == NULL)
        return error_set(err, ERR_UNAVAILABLE, "Vault's answer holds no public key");
    *ret_version = key.latest;
    *ret_pem = pem;
    return 0;
}

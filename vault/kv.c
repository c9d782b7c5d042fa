/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "vault/kv.h"

#include "common/b64.h"

json_t *kv_create_body(const struct secret *key, const unsigned char context[KV_CONTEXT_BYTES])
{
    char text[B64_LEN(KV_KEY_BYTES) + 1], hex[2 * KV_CONTEXT_BYTES + 1];

    if (secret_len(key) != KV_KEY_BYTES)
        return NULL;
    b64_encode(text, secret_data(key), KV_KEY_BYTES);
    hex_encode(hex, context, KV_CONTEXT_BYTES);
    json_t *body = json_pack("{s:{s:i}, s:{s:s, s:s}}", "options", "cas", 0, "data", "key", text,
                             "context", hex);
    explicit_bzero(text, sizeof(text));
    return body;
}

/* Whether an administrator removed it by hand, or delete_version_after does it one day. */
static int check_stays(const json_t *version, struct error *err)
{
    const char *when = json_string_value(json_object_get(version, "deletion_time"));
    if (json_is_true(json_object_get(version, "destroyed")))
        return error_set(err, ERR_PRECONDITION, "the key stored in Vault was destroyed");
    if (when != NULL && when[0] != '\0')
        return error_set(err, ERR_PRECONDITION,
                         "the key stored in Vault has a deletion time (%.40s): the volume would "
                         "be lost with it",
                         when);
    return 0;
}

int kv_created(const json_t *body, struct error *err)
{
    const json_t *data = json_object_get(body, "data");
    if (json_integer_value(json_object_get(data, "version")) == 1)
        return check_stays(data, err);
    return error_set(err, ERR_UNAVAILABLE, "Vault doesn't say that it stored the key");
}

int kv_intact(const json_t *body, struct error *err)
{
    const json_t *data = json_object_get(body, "data");
    const json_t *first = json_object_get(json_object_get(data, "versions"), "1");
    const json_t *current = json_object_get(data, "current_version");
    if (!json_is_integer(current) || !json_is_object(json_object_get(data, "versions")))
        return error_set(err, ERR_UNAVAILABLE, "Vault's answer describes no secret");
    if (json_integer_value(current) != 1 || !json_is_object(first))
        return error_set(err, ERR_PRECONDITION,
                         "the key stored in Vault has been replaced: it is at version %lld",
                         (long long)json_integer_value(current));
    return check_stays(first, err);
}

int kv_key(const json_t *body, const unsigned char context[KV_CONTEXT_BYTES], struct secret **ret,
           struct error *err)
{
    const json_t *data = json_object_get(json_object_get(body, "data"), "data");
    const char *text = json_string_value(json_object_get(data, "key"));
    const char *hex = json_string_value(json_object_get(data, "context"));
    char want[2 * KV_CONTEXT_BYTES + 1];
    size_t len = 0;

    if (!json_is_object(data))
        return error_set(err, ERR_UNAVAILABLE, "Vault's answer holds no secret");
    hex_encode(want, context, KV_CONTEXT_BYTES);
    if (text == NULL || hex == NULL || strcmp(hex, want) != 0) /* a context is no secret */
        return error_set(err, ERR_PRECONDITION, "the stored key is not this volume's");
    AUTO_SECRET struct secret *key = secret_new(KV_KEY_BYTES, err);
    if (key == NULL)
        return -1;
    if (b64_decode(secret_bytes(key), KV_KEY_BYTES, text, strlen(text), &len) < 0 ||
        len != KV_KEY_BYTES)
        return error_set(err, ERR_PRECONDITION, "what is stored is no key of %u bytes",
                         KV_KEY_BYTES);
    secret_set_len(key, len);
    *ret = TAKE_PTR(key);
    return 0;
}

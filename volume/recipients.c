/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/recipients.h"

#include "common/b64.h"
#include "common/cleanup.h"
#include "common/parse.h"
#include "common/strbuf.h"

#include <sha256.h>

/* recipient/wrap.c has what they do; keyd, which knows both, has a unit test that compares them. */
static const char *const algorithms[] = { RECIPIENT_RSA, RECIPIENT_RSA_512, RECIPIENT_X25519 };

bool recipient_algorithm_known(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(algorithms); i++)
        if (strcmp(algorithms[i], name) == 0)
            return true;
    return false;
}

bool recipient_label_valid(const char *label)
{
    if (strlen(label) > RECIPIENT_LABEL_MAX || !utf8_valid(label, strlen(label)))
        return false;
    for (const char *p = label; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    return true;
}

void recipient_fingerprint(const unsigned char *key, size_t len, char ret[65])
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA2_CTX ctx;

    SHA256Init(&ctx);
    SHA256Update(&ctx, key, len);
    SHA256Final(digest, &ctx);
    hex_encode(ret, digest, sizeof(digest));
}

/* --- decode --- */

static void read_bytes(struct json_reader *r, const char *field, unsigned char *ret, size_t size,
                       size_t *ret_len)
{
    char text[B64_LEN(RECIPIENT_KEY_MAX) + 1] = "";

    json_get_string(r, field, text, sizeof(text));
    if (b64_decode(ret, size, text, strlen(text), ret_len) < 0 || *ret_len == 0)
        json_problem(r, "field '%s' must be base64 of 1 to %zu bytes", field, size);
}

static int read_one(json_t *obj, struct recipient *ret, struct error *err)
{
    if (!json_is_object(obj))
        return error_set(err, ERR_INVALID, "a recipient must be an object");
    struct json_reader r = json_reader_of(obj, "recipient");

    json_get_string(&r, "alg", ret->algorithm, sizeof(ret->algorithm));
    if (!recipient_algorithm_known(ret->algorithm))
        json_problem(&r, "field 'alg' must be a known algorithm");
    json_get_string(&r, "label", ret->label, sizeof(ret->label));
    if (!recipient_label_valid(ret->label))
        json_problem(&r, "field 'label' must be text without control characters");
    read_bytes(&r, "key", ret->key, sizeof(ret->key), &ret->key_len);
    read_bytes(&r, "wrapped", ret->wrapped, sizeof(ret->wrapped), &ret->wrapped_len);
    return json_reader_done(&r, err);
}

int recipients_from_json(const json_t *array, struct recipient_list *ret, struct error *err)
{
    struct recipient_list list = { .n = 0 };

    for (size_t i = 0; i < json_array_size(array); i++) {
        struct recipient one = { .key_len = 0 };

        if (read_one(json_array_get(array, i), &one, err) < 0 ||
            recipients_add(&list, &one, err) < 0)
            return error_recode(err, ERR_INVALID);
    }
    *ret = list;
    return 0;
}

int recipients_decode(const char *text, struct recipient_list *ret, struct error *err)
{
    AUTO_JSON json_t *array = NULL;

    if (text[0] == '\0') {
        ret->n = 0;
        return 0;
    }
    if (json_parse(text, strlen(text), "recipients", &array, err) < 0)
        return -1;
    if (!json_is_array(array))
        return error_set(err, ERR_INVALID, "recipients must be an array");
    return recipients_from_json(array, ret, err);
}

/* --- encode --- */

static json_t *one_to_json(const struct recipient *r)
{
    char key[B64_LEN(RECIPIENT_KEY_MAX) + 1], wrapped[B64_LEN(RECIPIENT_WRAPPED_MAX) + 1];

    b64_encode(key, r->key, r->key_len);
    b64_encode(wrapped, r->wrapped, r->wrapped_len);
    return json_pack("{s:s, s:s, s:s, s:s}", "alg", r->algorithm, "key", key, "label", r->label,
                     "wrapped", wrapped);
}

json_t *recipients_to_json(const struct recipient_list *list)
{
    AUTO_JSON json_t *array = json_array();

    for (size_t i = 0; array != NULL && i < list->n; i++)
        if (json_array_append_new(array, one_to_json(&list->items[i])) < 0)
            return NULL;
    return TAKE_PTR(array);
}

int recipients_encode(const struct recipient_list *list, char ret[RECIPIENTS_TEXT_MAX + 1],
                      struct error *err)
{
    AUTO_JSON json_t *array = recipients_to_json(list);
    AUTO_FREE char *text = array == NULL ? NULL : json_text(array, JSON_COMPACT | JSON_SORT_KEYS);

    if (text == NULL)
        return error_memory(err);
    if (str_copy(ret, RECIPIENTS_TEXT_MAX + 1, list->n == 0 ? "" : text) < 0)
        return error_set(err, ERR_EXHAUSTED,
                         "the volume's record has no room for another recipient: all together have "
                         "%zu bytes there, of %d at most",
                         strlen(text), RECIPIENTS_TEXT_MAX);
    return 0;
}

/* --- the list --- */

struct recipient *recipients_find(struct recipient_list *list, const char *fingerprint)
{
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->items[i].fingerprint, fingerprint) == 0)
            return &list->items[i];
    return NULL;
}

int recipients_add(struct recipient_list *list, const struct recipient *r, struct error *err)
{
    char fingerprint[65];

    recipient_fingerprint(r->key, r->key_len, fingerprint);
    if (recipients_find(list, fingerprint) != NULL)
        return error_set(err, ERR_EXISTS, "the key %s is a recipient already", fingerprint);
    if (list->n == RECIPIENTS_MAX)
        return error_set(err, ERR_EXHAUSTED, "a volume has at most %d recipients", RECIPIENTS_MAX);
    struct recipient *to = &list->items[list->n++];

    *to = *r;
    memcpy(to->fingerprint, fingerprint, sizeof(fingerprint));
    return 0;
}

void recipients_remove(struct recipient_list *list, const struct recipient *member)
{
    size_t at = (size_t)(member - list->items);

    memmove(&list->items[at], &list->items[at + 1], (list->n - at - 1) * sizeof(list->items[0]));
    list->n--;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/body.h"

#include "common/b64.h"
#include "common/json.h"
#include "common/parse.h"
#include "common/strbuf.h"
#include "common/wipe.h"
#include "keyd/client.h"

#define WHAT         "the request"
#define SESSION_TEXT B64_LEN(KEYD_SESSION_MAX)
#define DEVICES_MAX  64u

/* ---- fields ---- */

/* base64 of 1 to max bytes; *ret_len: how many. Nothing is decoded: of a session that would stay on
 * the stack of a thread that may wait long now. */
static void check_base64(struct json_reader *r, const char *key, const char *text, size_t max,
                         size_t *ret_len)
{
    size_t len = 0;

    if (r->problem[0] != '\0')
        return;
    if (b64_check(text, strlen(text), &len) < 0 || len == 0 || len > max)
        json_problem(r, "field '%s' must be base64 of 1 to %zu bytes", key, max);
    if (ret_len != NULL)
        *ret_len = len;
}

static void read_hex(struct json_reader *r, const char *key, char *ret)
{
    json_get_string(r, key, ret, DEVICE_NAME_LEN + 1);
    if (r->problem[0] == '\0' && !hex_lower_valid(ret, DEVICE_NAME_LEN))
        json_problem(r, "field '%s' must be 64 lower-case hex digits", key);
}

/* Shown to people, in the cluster's objects too. */
static void read_label(struct json_reader *r, struct device *d)
{
    size_t len;

    if (!json_get_string_opt(r, "label", d->label, sizeof(d->label)))
        return;
    len = strlen(d->label);
    for (size_t i = 0; i < len; i++) {
        if (utf8_unsafe_len(d->label + i, len - i) > 0)
            json_problem(r, "field 'label' must be one line of text");
    }
}

/* What libcrypto lacks says nothing of the key. */
static void key_problem(struct json_reader *r, const struct error *why)
{
    if (why->code == ERR_INVALID || why->code == ERR_PRECONDITION)
        json_problem(r, "field 'publicKey': %s", why->msg);
    else
        json_problem_memory(r);
}

static struct public_key *parse_key(struct json_reader *r, const char *text)
{
    unsigned char der[PUBLIC_KEY_MAX];
    struct public_key *key = NULL;
    struct error err = ERROR_INIT;
    size_t len = 0;

    if (r->problem[0] != '\0')
        return NULL;
    if (b64_decode(der, sizeof(der), text, strlen(text), &len) < 0 || len == 0) {
        json_problem(r, "field 'publicKey' must be base64 of a SubjectPublicKeyInfo in DER");
        return NULL;
    }
    if (public_key_parse(der, len, &key, &err) < 0) {
        key_problem(r, &err);
        return NULL;
    }
    if (public_key_kind(key) == PUBLIC_KEY_RSA && der[0] == 0x30)
        return key;
    json_problem(r, "field 'publicKey' must be an RSA key of 2048 to 4096 bits, in DER");
    public_key_free(key);
    return NULL;
}

static const struct wrap_algorithm *read_algorithm(struct json_reader *r, char *name, size_t size)
{
    const struct wrap_algorithm *a;

    json_get_string(r, "algorithm", name, size);
    if (r->problem[0] != '\0')
        return NULL;
    a = wrap_algorithm(name);
    if (a == NULL || a->kind != PUBLIC_KEY_RSA)
        json_problem(r, "field 'algorithm' must be RSA-OAEP-256 or RSA-OAEP-512");
    return a;
}

/* publicKey, algorithm, wrappedKey, label */
static void read_device(struct json_reader *r, struct device *d)
{
    struct error err = ERROR_INIT;
    size_t wrapped = 0;

    json_get_string(r, "publicKey", d->public_key, sizeof(d->public_key));
    (void)read_algorithm(r, d->algorithm, sizeof(d->algorithm));
    json_get_string(r, "wrappedKey", d->wrapped, sizeof(d->wrapped));
    read_label(r, d);
    AUTO_PUBLIC_KEY struct public_key *key = parse_key(r, d->public_key);
    check_base64(r, "wrappedKey", d->wrapped, WRAPPED_MAX, &wrapped);
    if (key == NULL || r->problem[0] != '\0')
        return;
    if (wrapped != public_key_bits(key) / 8)
        json_problem(r, "field 'wrappedKey' must have the %u bytes of the device's key",
                     public_key_bits(key) / 8);
    if (public_key_arcs_fingerprint(key, d->name, &err) < 0)
        key_problem(r, &err);
    (void)snprintf(d->fingerprint, sizeof(d->fingerprint), "%s", public_key_fingerprint(key));
}

/* What is to be wiped goes from jansson's memory, which is, straight to ours. */
static void read_text(struct json_reader *r, const char *key, size_t max, char **ret)
{
    const json_t *value = json_get_any_opt(r, key);

    if (value == NULL || r->problem[0] != '\0')
        return;
    if (!json_is_string(value) || json_string_length(value) == 0 ||
        json_string_length(value) > max) {
        json_problem(r, "field '%s' must be a text of 1 to %zu bytes", key, max);
        return;
    }
    *ret = wipe_strdup(json_string_value(value));
    if (*ret == NULL)
        json_problem_memory(r);
}

static void read_session(struct json_reader *r, bool needed, const char *session_key,
                         const char *server_key, char **ret_session, char **ret_server)
{
    read_text(r, session_key, SESSION_TEXT, ret_session);
    read_text(r, server_key, KEYD_SERVER_KEY_MAX, ret_server);
    if (*ret_session != NULL)
        check_base64(r, session_key, *ret_session, KEYD_SESSION_MAX, NULL);
    if (needed && *ret_session == NULL)
        json_problem(r, "field '%s' is missing", session_key);
    if ((*ret_session == NULL) != (*ret_server == NULL))
        json_problem(r, "fields '%s' and '%s' go together", session_key, server_key);
}

/* ---- bodies ---- */

static int parse(const struct body *b, json_t **ret, struct error *err)
{
    if (b->len == 0)
        return error_set(err, ERR_INVALID, WHAT " has no body");
    return json_parse(b->data, b->len, WHAT, ret, err);
}

int body_challenge(const struct body *b, struct body_challenge *ret, struct error *err)
{
    AUTO_JSON json_t *obj = NULL;
    struct body_challenge c = { .algorithm = NULL };
    char text[B64_LEN(PUBLIC_KEY_DER_MAX) + 1] = "", algorithm[40] = "";

    if (parse(b, &obj, err) < 0)
        return -1;
    struct json_reader r = json_reader_of(obj, WHAT);
    json_get_string(&r, "publicKey", text, sizeof(text));
    c.algorithm = read_algorithm(&r, algorithm, sizeof(algorithm));
    AUTO_PUBLIC_KEY struct public_key *key = parse_key(&r, text);
    if (json_reader_done(&r, err) < 0 || public_key_arcs_fingerprint(key, c.name, err) < 0)
        return -1;
    c.key = TAKE_PTR(key);
    *ret = c;
    return 0;
}

static void read_seed(struct json_reader *r, struct operation *op)
{
    char uuid[37] = "", commitment[DEVICE_NAME_LEN + 1] = "";
    struct error err = ERROR_INIT;

    json_get_string(r, "uuid", uuid, sizeof(uuid));
    if (r->problem[0] == '\0' && !uuid_valid(uuid))
        json_problem(r, "field 'uuid' must be a lower-case UUID");
    read_hex(r, "commitment", commitment);
    if (operation_text(&op->input.uuid, uuid, &err) < 0 ||
        operation_text(&op->input.commitment, commitment, &err) < 0)
        json_problem_error(r, &err);
}

int body_deploy(const struct body *b, struct operation *op, char volume[CLOUD_HANDLE_MAX + 1],
                struct error *err)
{
    AUTO_JSON json_t *obj = NULL;
    struct operation_input *in = &op->input;

    if (parse(b, &obj, err) < 0)
        return -1;
    struct json_reader r = json_reader_of(obj, WHAT);
    read_device(&r, &in->device);
    read_seed(&r, op);
    volume[0] = '\0';
    (void)json_get_string_opt(&r, "volumeId", volume, CLOUD_HANDLE_MAX + 1);
    read_session(&r, false, "session", "serverKey", &in->session, &in->server_key);
    (void)json_get_bool_opt(&r, "spread", &op->spread);
    return json_reader_done(&r, err);
}

int body_mount(const struct body *b, struct operation *op, struct error *err)
{
    AUTO_JSON json_t *obj = NULL;

    if (parse(b, &obj, err) < 0)
        return -1;
    struct json_reader r = json_reader_of(obj, WHAT);
    read_session(&r, true, "session", "serverKey", &op->input.session, &op->input.server_key);
    return json_reader_done(&r, err);
}

int body_add(const struct body *b, struct operation *op, struct error *err)
{
    AUTO_JSON json_t *obj = NULL;

    if (parse(b, &obj, err) < 0)
        return -1;
    struct json_reader r = json_reader_of(obj, WHAT);
    read_device(&r, &op->input.device);
    read_session(&r, true, "session", "serverKey", &op->input.session, &op->input.server_key);
    return json_reader_done(&r, err);
}

static void check_form(struct json_reader *r, json_t *item)
{
    struct json_reader form = json_reader_of(item, "newRecipients");
    struct error err = ERROR_INIT;
    char fingerprint[DEVICE_NAME_LEN + 1] = "", wrapped[B64_LEN(WRAPPED_MAX) + 1] = "";

    read_hex(&form, "fingerprint", fingerprint);
    json_get_string(&form, "wrapped", wrapped, sizeof(wrapped));
    check_base64(&form, "wrapped", wrapped, WRAPPED_MAX, NULL);
    if (json_reader_done(&form, &err) < 0)
        json_problem(r, "newRecipients: %s", form.problem);
}

static void read_forms(struct json_reader *r, char **ret)
{
    json_t *list = json_get_array(r, "newRecipients"), *item;
    size_t i;

    if (list == NULL)
        return;
    /* none: who removes the last device has nobody to wrap for, and is to be told that */
    if (json_array_size(list) > DEVICES_MAX)
        json_problem(r, "field 'newRecipients' must hold at most %u devices", DEVICES_MAX);
    json_array_foreach (list, i, item)
        check_form(r, item);
    *ret = json_text(list, JSON_COMPACT);
    if (*ret == NULL)
        json_problem_memory(r);
}

int body_remove(const struct body *b, struct operation *op, char name[DEVICE_NAME_LEN + 1],
                struct error *err)
{
    AUTO_JSON json_t *obj = NULL;
    struct operation_input *in = &op->input;
    char commitment[DEVICE_NAME_LEN + 1] = "";

    if (parse(b, &obj, err) < 0)
        return -1;
    struct json_reader r = json_reader_of(obj, WHAT);
    name[0] = '\0';
    read_hex(&r, "name", name);
    read_session(&r, true, "session", "serverKey", &in->session, &in->server_key);
    read_session(&r, true, "newSession", "newServerKey", &in->new_session, &in->new_server_key);
    read_hex(&r, "newCommitment", commitment);
    read_forms(&r, &in->new_recipients);
    if (json_reader_done(&r, err) < 0)
        return -1;
    return operation_text(&in->new_commitment, commitment, err);
}

int body_empty(const struct body *b, struct error *err)
{
    AUTO_JSON json_t *obj = NULL;

    if (parse(b, &obj, err) < 0)
        return -1;
    struct json_reader r = json_reader_of(obj, WHAT);
    return json_reader_done(&r, err);
}

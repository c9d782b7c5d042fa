/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/vm_cloud.h"

#include "cofferctl/output.h"

#include <time.h>

#define POLL_FIRST_MS 250u
#define POLL_LAST_MS  2000u

const char *vm_text(const json_t *answer, const char *name)
{
    const char *text = json_string_value(json_object_get(answer, name));

    return text == NULL ? "" : text;
}

bool vm_is(const json_t *found, const char *status)
{
    return strcmp(vm_text(found, "status"), status) == 0;
}

/* ---- finding and waiting ---- */

int vm_find(struct vm_api *a, json_t **ret, struct error *err)
{
    const char *name = device_key_name(vm_api_key(a));
    AUTO_JSON json_t *found = NULL;
    char path[128];
    long status = 0;

    (void)snprintf(path, sizeof(path), "/v1/clouds/%s", name);
    if (vm_api_get(a, path, &status, &found, err) < 0)
        return -1;
    if (strcmp(vm_text(found, "name"), name) != 0 || vm_text(found, "status")[0] == '\0')
        return error_set(err, ERR_UNAVAILABLE, "the server's answer isn't about this device");
    *ret = TAKE_PTR(found);
    return 0;
}

static void tell(const struct vm_api *a, const json_t *found, char said[64])
{
    char now[64];

    (void)snprintf(now, sizeof(now), "%.20s, step %.20s", vm_text(found, "operation"),
                   vm_text(found, "step"));
    if (strcmp(now, said) == 0)
        return;
    memcpy(said, now, sizeof(now));
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(256);
    output_text(&text, now);
    (void)fprintf(vm_api_cli(a)->notes, "cofferctl: %s\n", strbuf_text(&text));
}

int vm_settled(struct vm_api *a, json_t **ret, struct error *err)
{
    char said[64] = "";

    for (uint64_t ms = POLL_FIRST_MS;; ms = ms < POLL_LAST_MS / 2 ? ms * 2 : POLL_LAST_MS) {
        AUTO_JSON json_t *found = NULL;

        if (vm_find(a, &found, err) < 0)
            return -1;
        if (!vm_is(found, "pending")) {
            *ret = TAKE_PTR(found);
            return 0;
        }
        tell(a, found, said);
        if (vm_api_pause(a, ms, err) < 0)
            return -1;
    }
}

/* ---- lending ---- */

static int check_pin(const char *public_key, struct error *err)
{
    const char *pin = vm_options.server_key;
    struct device_public p;

    if (device_public_parse(public_key, strlen(public_key), &p, err) < 0)
        return error_prefix(err, "the server's public key");
    if (pin != NULL && pin[0] != '\0' && strcmp(pin, p.fingerprint) != 0)
        return error_set(err, ERR_PERMISSION,
                         "the server's public key isn't the one of --server-key: its fingerprint "
                         "is %s",
                         p.fingerprint);
    return 0;
}

int vm_lending(const json_t *answer, const char *uuid, struct device_lending *ret,
               struct error *err)
{
    const json_t *key = json_object_get(answer, "serverKey");
    const char *volume = vm_text(answer, "volumeId");

    if (key == NULL || volume[0] == '\0')
        return error_set(err, ERR_UNAVAILABLE,
                         "the server doesn't say what a session is to be made for");
    if (check_pin(vm_text(key, "publicKey"), err) < 0)
        return -1;
    *ret = (struct device_lending){ .volume_id = volume,
                                    .uuid = uuid,
                                    .server = { vm_text(key, "keyId"), vm_text(key, "hash"),
                                                vm_text(key, "publicKey") },
                                    .expiry = (uint64_t)time(NULL) + vm_options.session_s };
    return 0;
}

int vm_storage_key(const struct vm_api *a, const json_t *answer, struct secret **ret,
                   struct error *err)
{
    if (device_unwrap(vm_api_key(a), vm_text(answer, "algorithm"), vm_text(answer, "wrappedKey"),
                      ret, err) < 0)
        return error_prefix(err, "the volume's key as it is kept for this device");
    return 0;
}

static int lend(const struct vm_api *a, const json_t *answer, char ret[DEVICE_WRAPPED_SIZE],
                struct error *err)
{
    AUTO_SECRET struct secret *key = NULL;
    struct device_lending to;

    if (vm_lending(answer, vm_text(answer, "uuid"), &to, err) < 0 ||
        vm_storage_key(a, answer, &key, err) < 0)
        return -1;
    return device_lend(vm_api_key(a), key, &to, ret, err);
}

int vm_add_session(const struct vm_api *a, const json_t *answer, json_t *body, struct error *err)
{
    const char *key_id = vm_text(json_object_get(answer, "serverKey"), "keyId");
    char session[DEVICE_WRAPPED_SIZE];

    if (lend(a, answer, session, err) < 0)
        return -1;
    if (json_object_set_new(body, "session", json_string(session)) < 0 ||
        json_object_set_new(body, "serverKey", json_string(key_id)) < 0)
        return error_memory(err);
    return 0;
}

int vm_own(struct vm_api *a, const json_t *found, json_t **ret, struct error *err)
{
    AUTO_JSON json_t *body = json_object();

    if (vm_text(found, "wrappedKey")[0] == '\0')
        return vm_api_call(a, "POST", "/recipients/list", body, ret, err);
    *ret = json_deep_copy(found);
    return *ret == NULL ? error_memory(err) : 0;
}

/* ---- opening ---- */

int vm_judge(const json_t *found, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(1024);

    if (!vm_is(found, "failure"))
        return 0;
    output_text(&text, vm_text(found, "reason"));
    return error_set(err, ERR_ABORTED, "it failed: %s", strbuf_text(&text));
}

/* 0 when it is attached. */
static int want_attached(const json_t *found, struct error *err)
{
    if (vm_judge(found, err) < 0)
        return -1;
    return vm_is(found, "attached")
               ? 0
               : error_set(err, ERR_ABORTED, "it is %.40s now: something else changed it meanwhile",
                           vm_text(found, "status"));
}

int vm_open(struct vm_api *a, const char *verb, const json_t *found, json_t **ret,
            struct error *err)
{
    AUTO_JSON json_t *body = json_object();
    AUTO_JSON json_t *own = NULL;
    AUTO_JSON json_t *after = NULL;
    char path[32];

    (void)snprintf(path, sizeof(path), "/%s", verb);
    if (vm_own(a, found, &own, err) < 0 || vm_add_session(a, own, body, err) < 0 ||
        vm_api_call(a, "POST", path, body, NULL, err) < 0 || vm_settled(a, &after, err) < 0 ||
        want_attached(after, err) < 0)
        return -1;
    *ret = TAKE_PTR(after);
    return 0;
}

/* ---- showing ---- */

int vm_show(const struct cli *cli, const json_t *found, struct error *err)
{
    static const struct output_column all[] = {
        { "url", "url", false },       { "status", "status", false },
        { "reason", "reason", false }, { "operation", "operation", false },
        { "step", "step", false },     { "id", "id", false },
        { "name", "name", false },     { "volumeId", "volume", false },
    };
    struct output_column columns[ARRAY_SIZE(all)];
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        if (vm_text(found, all[i].key)[0] != '\0')
            columns[n++] = all[i];
    }
    return output_object(cli->out, cli->output, found, columns, n, err);
}

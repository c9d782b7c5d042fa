/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl volume create: CreateVolume, and keep what it returned. Repeated, it is the same call
 * again: the same answer, or an error, never another volume under a name that is known.
 */
#include "common/base.h"
#include "cofferctl/verbs.h"

#include "cofferctl/host_call.h"
#include "cofferctl/host_secrets.h"
#include "common/cleanup.h"
#include "common/fault.h"
#include "common/json.h"

static struct {
    const char *size, *fs, *access_mode;
    struct flag_strings params;
    uint64_t bytes; /* --size */
} options;

static const struct flag flags[] = {
    { "size", NULL, FLAG_STRING, &options.size, "", "bytes, or with Ki, Mi, Gi, Ti; required",
      NULL },
    { "fs", NULL, FLAG_STRING, &options.fs, "ext4", "file system; none: raw block", NULL },
    { "access-mode", NULL, FLAG_STRING, &options.access_mode, "RWO",
      "RWOP: mounted at one place only; ROX: read-only", HOST_ACCESS_MODES },
    { "param", NULL, FLAG_STRINGS, &options.params, NULL,
      "KEY=VALUE, as in a StorageClass (pool, kms, tenant, ...); repeatable", NULL },
    HOST_FLAG_SECRETS,
    HOST_FLAG_TIMEOUT,
    HOST_FLAG_CONTROLLER,
    HOST_FLAG_STATE_DIR,
};

static int check(const struct cli *cli, struct error *err)
{
    if (host_volume_name_check(cli->operand, err) < 0)
        return -1;
    return host_size_parse(options.size, &options.bytes, err);
}

/* ---- the request ---- */

static int add_param(json_t *params, const char *text, struct error *err)
{
    const char *equals = strchr(text, '=');
    if (equals == NULL || equals == text)
        return error_set(err, ERR_INVALID, "--param '%s' is not KEY=VALUE", text);
    AUTO_FREE char *key = strndup(text, (size_t)(equals - text));
    if (key == NULL)
        return error_memory(err);
    if (json_object_get(params, key) != NULL)
        return error_set(err, ERR_INVALID, "--param '%s' is given twice", key);
    if (json_object_set_new(params, key, json_string(equals + 1)) < 0)
        return error_set(err, ERR_INVALID, "--param '%s' is not UTF-8 text", key);
    return 0;
}

static int make_request(const struct host_volume *v, json_t **ret, struct error *err)
{
    AUTO_JSON json_t *params = json_object();
    AUTO_JSON json_t *secrets = NULL;
    if (host_secrets_read(&secrets, err) < 0)
        return -1;
    for (size_t i = 0; i < options.params.len; i++) {
        if (add_param(params, options.params.items[i], err) < 0)
            return -1;
    }
    *ret = json_pack("{s:s, s:{s:I}, s:[o], s:O, s:O}", "name", v->name, "capacity_range",
                     "required_bytes", (json_int_t)options.bytes, "volume_capabilities",
                     host_volume_capability(v), "parameters", params, "secrets", secrets);
    return 0;
}

/* ---- the answer ---- */

static int take_reply(json_t *reply, struct host_volume *v, uint64_t *ret_size, struct error *err)
{
    struct volume_id id;
    json_t *volume = json_object_get(reply, "volume");
    json_t *context = json_object_get(volume, "volume_context");
    const char *text = json_string_value(json_object_get(volume, "volume_id"));
    if (text == NULL || volume_id_parse(text, &id, err) < 0 ||
        str_copy(v->id, sizeof(v->id), text) < 0 || !json_is_object(context))
        return error_set(err, ERR_INTERNAL, "coffer-controller's answer names no volume");
    v->context = json_incref(context);
    *ret_size = (uint64_t)json_integer_value(json_object_get(volume, "capacity_bytes"));
    return 0;
}

static int differs(const char *what, const struct host_volume *known, struct error *err)
{
    return error_set(err, ERR_DATA_LOSS,
                     "volume '%s': coffer-controller's answer has another %s than the one that was "
                     "kept when the volume was created",
                     known->name, what);
}

/* What was kept stays: the pool's record is what may have been changed by somebody. */
static int compare(const struct host_volume *known, const struct host_volume *now,
                   struct error *err)
{
    if (strcmp(known->fs, now->fs) != 0 || strcmp(known->access_mode, now->access_mode) != 0)
        return error_set(err, ERR_EXISTS, "volume '%s' exists, with --fs %s --access-mode %s",
                         known->name, known->fs, known->access_mode);
    if (strcmp(known->id, now->id) != 0)
        return differs("id", known, err);
    return json_equal(known->context, now->context) ? 0 : differs("volume_context", known, err);
}

static int keep(const struct host *h, const struct host_volume *now, struct error *err)
{
    AUTO_HOST_VOLUME struct host_volume known = HOST_VOLUME_INIT;
    struct error local = ERROR_INIT;
    FAULT_POINT("cofferctl:create:called");
    if (host_store_load(&h->store, now->name, &known, &local) == 0)
        return compare(&known, now, err);
    if (local.code != ERR_NOT_FOUND) {
        *err = local;
        return -1;
    }
    if (host_store_save(&h->store, now, err) < 0)
        return -1;
    FAULT_POINT("cofferctl:create:kept");
    return 0;
}

static int run(const struct cli *cli, struct error *err)
{
    AUTO_HOST struct host h = HOST_INIT;
    AUTO_HOST_LOCK struct host_lock lock = HOST_LOCK_INIT;
    AUTO_HOST_VOLUME struct host_volume v = HOST_VOLUME_INIT;
    AUTO_JSON json_t *reply = NULL;
    json_t *request = NULL;
    uint64_t size = 0;
    if (str_copy(v.name, sizeof(v.name), cli->operand) < 0 ||
        str_copy(v.fs, sizeof(v.fs), options.fs) < 0 ||
        str_copy(v.access_mode, sizeof(v.access_mode), options.access_mode) < 0)
        return error_set(err, ERR_INVALID, "--fs '%.100s' is no file system", options.fs);
    if (make_request(&v, &request, err) < 0 || host_open(cli, &h, err) < 0) {
        json_decref(request);
        return -1;
    }
    if (host_lock_take(&h.store, v.name, h.deadline, &lock, err) < 0) {
        json_decref(request);
        return -1;
    }
    if (host_call(&h, HOST_CONTROLLER, "csi.v1.Controller/CreateVolume", request, &reply, err) <
            0 ||
        take_reply(reply, &v, &size, err) < 0 || keep(&h, &v, err) < 0)
        return -1;
    return host_show(cli, &v, size, err);
}

const struct verb volume_create = {
    .group = "volume",
    .name = "create",
    .operand = "NAME",
    .help = "create a volume on this host",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .check = check,
    .run = run,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl volume expand: the image first, then, where the volume is mounted, the rest, online.
 * One that isn't mounted grows when it is. */
#include "common/base.h"
#include "cofferctl/verbs.h"

#include "cofferctl/host_mount.h"
#include "cofferctl/host_secrets.h"
#include "common/fault.h"
#include "common/json.h"

static struct {
    const char *size;
    uint64_t bytes; /* the same */
} options;

static const struct flag flags[] = {
    { "size", NULL, FLAG_STRING, &options.size, "",
      "the new size: bytes, or with Ki, Mi, Gi, Ti; required", NULL },
    HOST_FLAG_SECRETS,
    HOST_FLAG_TIMEOUT,
    HOST_FLAG_CONTROLLER,
    HOST_FLAG_NODE,
    HOST_FLAG_STATE_DIR,
};

static int check(const struct cli *cli UNUSED, struct error *err)
{
    return host_size_parse(options.size, &options.bytes, err);
}

static json_int_t capacity(const json_t *reply)
{
    return json_integer_value(json_object_get(reply, "capacity_bytes"));
}

static int grow(const struct host *h, const struct host_volume *v, json_int_t *ret_size,
                struct error *err)
{
    AUTO_JSON json_t *reply = NULL;
    if (host_call(h, HOST_CONTROLLER, "csi.v1.Controller/ControllerExpandVolume",
                  json_pack("{s:s, s:{s:I}, s:o}", "volume_id", v->id, "capacity_range",
                            "required_bytes", (json_int_t)options.bytes, "volume_capability",
                            host_volume_capability(v)),
                  &reply, err) < 0)
        return -1;
    FAULT_POINT("cofferctl:expand:controller");
    *ret_size = capacity(reply);
    return 0;
}

static int grow_mounted(const struct host *h, const struct host_volume *v, const char *path,
                        json_int_t size, struct error *err)
{
    AUTO_JSON json_t *secrets = NULL;
    char staging[HOST_PATH_MAX];
    if (host_secrets_read(&secrets, err) < 0 ||
        host_store_staging(&h->store, v->id, staging, err) < 0 ||
        host_call(h, HOST_NODE, "csi.v1.Node/NodeExpandVolume",
                  json_pack("{s:s, s:s, s:s, s:{s:I}, s:o, s:O}", "volume_id", v->id, "volume_path",
                            path, "staging_target_path", staging, "capacity_range",
                            "required_bytes", size, "volume_capability", host_volume_capability(v),
                            "secrets", secrets),
                  NULL, err) < 0)
        return -1;
    FAULT_POINT("cofferctl:expand:node");
    return 0;
}

static int run(const struct cli *cli, struct error *err)
{
    AUTO_HOST struct host h = HOST_INIT;
    AUTO_HOST_LOCK struct host_lock lock = HOST_LOCK_INIT;
    AUTO_HOST_VOLUME struct host_volume v = HOST_VOLUME_INIT;
    char name[HOST_VOLUME_NAME_MAX + 1], path[HOST_PATH_MAX];
    json_int_t size = 0;
    if (host_open(cli, &h, err) < 0 || host_store_find(&h.store, cli->operand, name, err) < 0 ||
        host_lock_take(&h.store, name, h.deadline, &lock, err) < 0 ||
        host_store_load(&h.store, name, &v, err) < 0 || grow(&h, &v, &size, err) < 0 ||
        host_mounted_at(&h, &v, path, err) < 0)
        return -1;
    if (path[0] != '\0' && grow_mounted(&h, &v, path, size, err) < 0)
        return -1;
    return host_show(cli, &v, (uint64_t)size, err);
}

const struct verb volume_expand = {
    .group = "volume",
    .name = "expand",
    .operand = "VOLUME",
    .help = "grow a volume of this host (by name or id); it may be mounted",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .check = check,
    .run = run,
};

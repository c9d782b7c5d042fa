/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "csi/dispatch.h"

#include "common/log.h"
#include "csi/validate.h"

#include "coffer_admin.pb-c.h"
#include "plugin_registration.pb-c.h"

bool method_offered(const struct method *m, const struct csi_service *s)
{
    if (m->run == NULL)
        return false;
    const void *table;
    memcpy(&table, (const char *)s + m->table, sizeof(table));
    if (table == NULL)
        return false;
    void (*op)(void);
    memcpy(&op, (const char *)table + m->op, sizeof(op));
    return op != NULL;
}

struct unpack_arena {
    struct arena *arena;
    bool full;
};

static void *unpack_alloc(void *ctx, size_t size)
{
    struct unpack_arena *u = ctx;
    void *p = arena_alloc(u->arena, size);
    u->full |= p == NULL;
    return p;
}

static void unpack_free(void *ctx, void *p)
{
}

static int unpack(const struct method *m, struct arena *a, const void *data, size_t len,
                  const ProtobufCMessage **ret, struct error *err)
{
    struct unpack_arena u = { .arena = a, .full = false };
    ProtobufCAllocator allocator = { .alloc = unpack_alloc,
                                     .free = unpack_free,
                                     .allocator_data = &u };
    const ProtobufCMessage *msg = protobuf_c_message_unpack(m->request, &allocator, len, data);
    if (msg == NULL && u.full)
        return error_set(err, ERR_EXHAUSTED, "the request needs more memory than one call may use");
    if (msg == NULL)
        return error_set(err, ERR_INVALID, "the request is not a well-formed %s", m->request->name);
    *ret = msg;
    return 0;
}

/* A string field by its name; NULL when the message has no such field or it is empty. */
static const char *string_field(const ProtobufCMessage *msg, const char *name)
{
    const ProtobufCFieldDescriptor *f =
        protobuf_c_message_descriptor_get_field_by_name(msg->descriptor, name);
    if (f == NULL || f->type != PROTOBUF_C_TYPE_STRING || f->label == PROTOBUF_C_LABEL_REPEATED)
        return NULL;
    const char *text;
    memcpy(&text, (const char *)msg + f->offset, sizeof(text));
    return text != NULL && text[0] != '\0' ? text : NULL;
}

int dispatch_decode(const struct method *m, struct arena *a, const void *data, size_t len,
                    struct request *ret, struct error *err)
{
    struct request r = { .message = NULL };
    if (validate_wire(m->request, data, len, err) < 0 ||
        unpack(m, a, data, len, &r.message, err) < 0)
        return -1;
    r.volume_id = string_field(r.message, "volume_id");
    r.name = string_field(r.message, "name");
    ret->volume_id = r.volume_id; /* a refused call is logged with its ids too */
    ret->name = r.name;
    if (m->decode != NULL && m->decode(a, r.message, &r.decoded, err) < 0)
        return -1;
    *ret = r;
    return 0;
}

/* The id of the volume that CreateVolume made. */
static const char *reply_volume_id(const ProtobufCMessage *reply)
{
    if (reply == NULL || reply->descriptor != &csi__v1__create_volume_response__descriptor)
        return NULL;
    const Csi__V1__CreateVolumeResponse *m = (const Csi__V1__CreateVolumeResponse *)reply;
    return m->volume != NULL ? m->volume->volume_id : NULL;
}

void dispatch_log(const char *path, const struct request *r, const ProtobufCMessage *reply,
                  const struct error *err, bool quiet, uint64_t ms, const struct phases *phases)
{
    bool failed = err->code != ERR_OK;
    enum log_level level = failed ? LOG_LEVEL_WARN : quiet ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;
    if (!log_enabled(level))
        return;
    const char *id = r->volume_id != NULL ? r->volume_id : reply_volume_id(reply);
    struct log_kv kv[6 + PHASES_MAX];
    size_t n = 0;
    kv[n++] = log_kv_str("method", path);
    if (id != NULL)
        kv[n++] = log_kv_str("volume_id", id);
    if (r->name != NULL)
        kv[n++] = log_kv_str("name", r->name);
    kv[n++] = log_kv_str("code", failed ? error_code_name(err->code) : "OK");
    kv[n++] = log_kv_uint("ms", ms);
    for (size_t i = 0; i < phases->n; i++)
        kv[n++] = log_kv_uint(phases->items[i].name, phases->items[i].us);
    if (failed)
        kv[n++] = log_kv_str("error", err->msg);
    log_write(level, __FILE__, __LINE__, "call", kv, n);
}

/* ---- the table: one row per RPC of our services in csi/proto ---- */

#define OPS(kind, member) \
    offsetof(struct csi_service, kind), offsetof(struct csi_##kind##_ops, member)
#define NOT_SUPPORTED .table = 0, .op = 0, .on_poller = true, .decode = NULL, .run = NULL
#define POLLER        true
#define WORKER        false

const struct method csi_methods[] = {
    { "/csi.v1.Identity/GetPluginInfo", &csi__v1__get_plugin_info_request__descriptor,
      OPS(identity, get_plugin_info), POLLER, NULL, run_get_plugin_info },
    { "/csi.v1.Identity/GetPluginCapabilities",
      &csi__v1__get_plugin_capabilities_request__descriptor, OPS(identity, get_plugin_capabilities),
      POLLER, NULL, run_get_plugin_capabilities },
    { "/csi.v1.Identity/Probe", &csi__v1__probe_request__descriptor, OPS(identity, probe), POLLER,
      NULL, run_probe },

    { "/csi.v1.Controller/CreateVolume", &csi__v1__create_volume_request__descriptor,
      OPS(controller, create_volume), WORKER, decode_create_volume, run_create_volume },
    { "/csi.v1.Controller/DeleteVolume", &csi__v1__delete_volume_request__descriptor,
      OPS(controller, delete_volume), WORKER, decode_delete_volume, run_delete_volume },
    { "/csi.v1.Controller/ValidateVolumeCapabilities",
      &csi__v1__validate_volume_capabilities_request__descriptor,
      OPS(controller, validate_capabilities), WORKER, decode_validate, run_validate },
    { "/csi.v1.Controller/ListVolumes", &csi__v1__list_volumes_request__descriptor,
      OPS(controller, list_volumes), WORKER, decode_list_volumes, run_list_volumes },
    { "/csi.v1.Controller/GetCapacity", &csi__v1__get_capacity_request__descriptor,
      OPS(controller, get_capacity), WORKER, decode_get_capacity, run_get_capacity },
    { "/csi.v1.Controller/ControllerGetCapabilities",
      &csi__v1__controller_get_capabilities_request__descriptor, OPS(controller, get_capabilities),
      POLLER, NULL, run_controller_get_capabilities },
    { "/csi.v1.Controller/ControllerExpandVolume",
      &csi__v1__controller_expand_volume_request__descriptor, OPS(controller, expand_volume),
      WORKER, decode_controller_expand, run_controller_expand },
    { "/csi.v1.Controller/ControllerPublishVolume", NULL, NOT_SUPPORTED },
    { "/csi.v1.Controller/ControllerUnpublishVolume", NULL, NOT_SUPPORTED },
    { "/csi.v1.Controller/CreateSnapshot", NULL, NOT_SUPPORTED },
    { "/csi.v1.Controller/DeleteSnapshot", NULL, NOT_SUPPORTED },
    { "/csi.v1.Controller/ListSnapshots", NULL, NOT_SUPPORTED },
    { "/csi.v1.Controller/GetSnapshot", NULL, NOT_SUPPORTED },
    { "/csi.v1.Controller/ControllerGetVolume", NULL, NOT_SUPPORTED },
    { "/csi.v1.Controller/ControllerModifyVolume", NULL, NOT_SUPPORTED },

    { "/csi.v1.Node/NodeStageVolume", &csi__v1__node_stage_volume_request__descriptor,
      OPS(node, stage_volume), WORKER, decode_stage, run_stage },
    { "/csi.v1.Node/NodeUnstageVolume", &csi__v1__node_unstage_volume_request__descriptor,
      OPS(node, unstage_volume), WORKER, decode_unstage, run_unstage },
    { "/csi.v1.Node/NodePublishVolume", &csi__v1__node_publish_volume_request__descriptor,
      OPS(node, publish_volume), WORKER, decode_publish, run_publish },
    { "/csi.v1.Node/NodeUnpublishVolume", &csi__v1__node_unpublish_volume_request__descriptor,
      OPS(node, unpublish_volume), WORKER, decode_unpublish, run_unpublish },
    { "/csi.v1.Node/NodeGetVolumeStats", &csi__v1__node_get_volume_stats_request__descriptor,
      OPS(node, get_volume_stats), WORKER, decode_stats, run_stats },
    { "/csi.v1.Node/NodeExpandVolume", &csi__v1__node_expand_volume_request__descriptor,
      OPS(node, expand_volume), WORKER, decode_node_expand, run_node_expand },
    { "/csi.v1.Node/NodeGetCapabilities", &csi__v1__node_get_capabilities_request__descriptor,
      OPS(node, get_capabilities), POLLER, NULL, run_node_get_capabilities },
    { "/csi.v1.Node/NodeGetInfo", &csi__v1__node_get_info_request__descriptor, OPS(node, get_info),
      POLLER, NULL, run_node_get_info },

    { "/coffer.v1.NodeAdmin/UnlockKey", &coffer__v1__unlock_key_request__descriptor,
      OPS(admin, unlock_key), WORKER, decode_unlock_key, run_unlock_key },
    { "/coffer.v1.NodeAdmin/RotateKey", &coffer__v1__rotate_key_request__descriptor,
      OPS(admin, rotate_key), WORKER, decode_rotate_key, run_rotate_key },
    { "/coffer.v1.NodeAdmin/AddRecipient", &coffer__v1__add_recipient_request__descriptor,
      OPS(admin, add_recipient), WORKER, decode_add_recipient, run_add_recipient },
    { "/coffer.v1.NodeAdmin/RemoveRecipient", &coffer__v1__remove_recipient_request__descriptor,
      OPS(admin, remove_recipient), WORKER, decode_remove_recipient, run_remove_recipient },
    { "/coffer.v1.NodeAdmin/ListRecipients", &coffer__v1__list_recipients_request__descriptor,
      OPS(admin, list_recipients), WORKER, decode_list_recipients, run_list_recipients },
    { "/coffer.v1.NodeAdmin/DescribeVolumes", &coffer__v1__describe_volumes_request__descriptor,
      OPS(admin, describe_volumes), WORKER, decode_describe, run_describe },
    { "/coffer.v1.NodeAdmin/Reconcile", &coffer__v1__reconcile_request__descriptor,
      OPS(admin, reconcile), WORKER, decode_reconcile, run_reconcile },

    { "/pluginregistration.Registration/GetInfo", &pluginregistration__info_request__descriptor,
      OPS(registration, get_info), POLLER, NULL, run_registration_info },
    { "/pluginregistration.Registration/NotifyRegistrationStatus",
      &pluginregistration__registration_status__descriptor, OPS(registration, notify), POLLER,
      decode_registration_status, run_registration_status },
};
const size_t csi_methods_len = ARRAY_SIZE(csi_methods);
_Static_assert(ARRAY_SIZE(csi_methods) <= METHODS_MAX, "METHODS_MAX is too small");

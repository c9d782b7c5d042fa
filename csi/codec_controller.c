/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "csi/codec.h"

static int decode_requirement(struct arena *a, const Csi__V1__TopologyRequirement *m,
                              struct csi_create_volume_request *r, struct error *err)
{
    if (m == NULL)
        return 0;
    r->has_topology = true;
    if (decode_topologies(a, m->requisite, m->n_requisite, &r->requisite, err) < 0)
        return -1;
    return decode_topologies(a, m->preferred, m->n_preferred, &r->preferred, err);
}

int decode_create_volume(struct arena *a, const ProtobufCMessage *msg, const void **ret,
                         struct error *err)
{
    const Csi__V1__CreateVolumeRequest *m = (const Csi__V1__CreateVolumeRequest *)msg;
    struct csi_create_volume_request *r = codec_alloc(a, 1, sizeof(*r), err);
    if (r == NULL || codec_require("name", m->name, err) < 0)
        return -1;
    if (m->n_volume_capabilities == 0)
        return error_set(err, ERR_INVALID, "volume_capabilities is missing");
    r->name = m->name;
    r->has_source = m->volume_content_source != NULL;
    if (decode_capabilities(a, m->volume_capabilities, m->n_volume_capabilities, &r->capabilities,
                            err) < 0 ||
        decode_range(m->capacity_range, &r->has_range, &r->required_bytes, &r->limit_bytes, err) <
            0 ||
        decode_map(a, m->parameters, m->n_parameters, &r->parameters, err) < 0 ||
        decode_map(a, m->secrets, m->n_secrets, &r->secrets, err) < 0 ||
        decode_map(a, m->mutable_parameters, m->n_mutable_parameters, &r->mutable_parameters, err) <
            0 ||
        decode_requirement(a, m->accessibility_requirements, r, err) < 0)
        return -1;
    *ret = r;
    return 0;
}

int run_create_volume(const struct csi_service *s, struct csi_call *call, const void *request,
                      ProtobufCMessage **ret, struct error *err)
{
    struct csi_volume volume = { .volume_id = "" };
    if (s->controller->create_volume(s->ctx, call, request, &volume, err) < 0)
        return -1;
    Csi__V1__CreateVolumeResponse *m =
        codec_new(call->arena, &csi__v1__create_volume_response__descriptor, err);
    /* the volume is there: after RESOURCE_EXHAUSTED its caller goes elsewhere, and nobody deletes
     * it */
    if (m == NULL || encode_volume(call->arena, &volume, &m->volume, err) < 0)
        return error_recode(err, ERR_ABORTED);
    *ret = &m->base;
    return 0;
}

int decode_delete_volume(struct arena *a, const ProtobufCMessage *msg, const void **ret,
                         struct error *err)
{
    const Csi__V1__DeleteVolumeRequest *m = (const Csi__V1__DeleteVolumeRequest *)msg;
    struct csi_delete_volume_request *r = codec_alloc(a, 1, sizeof(*r), err);
    if (r == NULL || codec_require("volume_id", m->volume_id, err) < 0 ||
        decode_map(a, m->secrets, m->n_secrets, &r->secrets, err) < 0)
        return -1;
    r->volume_id = m->volume_id;
    *ret = r;
    return 0;
}

int run_delete_volume(const struct csi_service *s, struct csi_call *call, const void *request,
                      ProtobufCMessage **ret, struct error *err)
{
    if (s->controller->delete_volume(s->ctx, call, request, err) < 0)
        return -1;
    *ret = codec_new(call->arena, &csi__v1__delete_volume_response__descriptor, err);
    return *ret == NULL ? -1 : 0;
}

int decode_validate(struct arena *a, const ProtobufCMessage *msg, const void **ret,
                    struct error *err)
{
    const Csi__V1__ValidateVolumeCapabilitiesRequest *m =
        (const Csi__V1__ValidateVolumeCapabilitiesRequest *)msg;
    struct csi_validate_request *r = codec_alloc(a, 1, sizeof(*r), err);
    if (r == NULL || codec_require("volume_id", m->volume_id, err) < 0)
        return -1;
    if (m->n_volume_capabilities == 0)
        return error_set(err, ERR_INVALID, "volume_capabilities is missing");
    r->volume_id = m->volume_id;
    if (decode_capabilities(a, m->volume_capabilities, m->n_volume_capabilities, &r->capabilities,
                            err) < 0 ||
        decode_map(a, m->volume_context, m->n_volume_context, &r->volume_context, err) < 0 ||
        decode_map(a, m->parameters, m->n_parameters, &r->parameters, err) < 0 ||
        decode_map(a, m->mutable_parameters, m->n_mutable_parameters, &r->mutable_parameters, err) <
            0 ||
        decode_map(a, m->secrets, m->n_secrets, &r->secrets, err) < 0)
        return -1;
    *ret = r;
    return 0;
}

typedef Csi__V1__ValidateVolumeCapabilitiesResponse__Confirmed confirmed_message;
#define CONFIRMED(x) (&csi__v1__validate_volume_capabilities_response__confirmed__##x##descriptor)

/* "Confirmed" repeats what was asked: the CO compares it. */
static int encode_confirmed(struct arena *a, const struct csi_validate_request *r,
                            confirmed_message **ret, struct error *err)
{
    confirmed_message *m = codec_new(a, CONFIRMED(), err);
    void *context, *parameters;
    if (m == NULL ||
        encode_map(a, CONFIRMED(volume_context_entry__), &r->volume_context, &m->n_volume_context,
                   &context, err) < 0 ||
        encode_map(a, CONFIRMED(parameters_entry__), &r->parameters, &m->n_parameters, &parameters,
                   err) < 0 ||
        encode_capabilities(a, &r->capabilities, &m->n_volume_capabilities, &m->volume_capabilities,
                            err) < 0)
        return -1;
    m->volume_context = context;
    m->parameters = parameters;
    *ret = m;
    return 0;
}

int run_validate(const struct csi_service *s, struct csi_call *call, const void *request,
                 ProtobufCMessage **ret, struct error *err)
{
    const struct csi_validate_request *r = request;
    struct csi_validate_reply reply = { .confirmed = false, .message = "" };
    if (s->controller->validate_capabilities(s->ctx, call, r, &reply, err) < 0)
        return -1;
    if (reply.confirmed && r->mutable_parameters.n > 0)
        reply = (struct csi_validate_reply){ .message = "mutable_parameters are not supported" };
    Csi__V1__ValidateVolumeCapabilitiesResponse *m =
        codec_new(call->arena, &csi__v1__validate_volume_capabilities_response__descriptor, err);
    if (m == NULL || (reply.confirmed && encode_confirmed(call->arena, r, &m->confirmed, err) < 0))
        return -1;
    m->message = codec_string(reply.message);
    *ret = &m->base;
    return 0;
}

int decode_list_volumes(struct arena *a, const ProtobufCMessage *msg, const void **ret,
                        struct error *err)
{
    const Csi__V1__ListVolumesRequest *m = (const Csi__V1__ListVolumesRequest *)msg;
    struct csi_list_request *r = codec_alloc(a, 1, sizeof(*r), err);
    if (r == NULL)
        return -1;
    if (m->max_entries < 0)
        return error_set(err, ERR_INVALID, "max_entries is negative");
    r->max_entries = (uint64_t)m->max_entries;
    r->starting_token = m->starting_token;
    *ret = r;
    return 0;
}

/* Volumes that share their topology share its message. */
static int encode_entry(struct arena *a, const struct csi_list_reply *list, size_t i,
                        Csi__V1__ListVolumesResponse__Entry **entries, struct error *err)
{
    struct csi_volume v = list->items[i];
    bool shared = i > 0 &&
                  v.accessible_topology.items == list->items[i - 1].accessible_topology.items &&
                  v.accessible_topology.n == list->items[i - 1].accessible_topology.n;
    entries[i] = codec_new(a, &csi__v1__list_volumes_response__entry__descriptor, err);
    if (shared)
        v.accessible_topology.n = 0;
    if (entries[i] == NULL || encode_volume(a, &v, &entries[i]->volume, err) < 0)
        return -1;
    if (shared) {
        const Csi__V1__Volume *before = entries[i - 1]->volume;
        entries[i]->volume->accessible_topology = before->accessible_topology;
        entries[i]->volume->n_accessible_topology = before->n_accessible_topology;
    }
    return 0;
}

int run_list_volumes(const struct csi_service *s, struct csi_call *call, const void *request,
                     ProtobufCMessage **ret, struct error *err)
{
    struct csi_list_reply list = { .next_token = "" };
    if (s->controller->list_volumes(s->ctx, call, request, &list, err) < 0)
        return -1;
    struct arena *a = call->arena;
    Csi__V1__ListVolumesResponse *m =
        codec_new(a, &csi__v1__list_volumes_response__descriptor, err);
    Csi__V1__ListVolumesResponse__Entry **entries = codec_alloc(a, list.n, sizeof(*entries), err);
    if (m == NULL || entries == NULL)
        return -1;
    for (size_t i = 0; i < list.n; i++)
        if (encode_entry(a, &list, i, entries, err) < 0)
            return -1;
    m->entries = entries;
    m->n_entries = list.n;
    m->next_token = codec_string(list.next_token);
    *ret = &m->base;
    return 0;
}

int decode_get_capacity(struct arena *a, const ProtobufCMessage *msg, const void **ret,
                        struct error *err)
{
    const Csi__V1__GetCapacityRequest *m = (const Csi__V1__GetCapacityRequest *)msg;
    struct csi_capacity_request *r = codec_alloc(a, 1, sizeof(*r), err);
    if (r == NULL ||
        decode_capabilities(a, m->volume_capabilities, m->n_volume_capabilities, &r->capabilities,
                            err) < 0 ||
        decode_map(a, m->parameters, m->n_parameters, &r->parameters, err) < 0)
        return -1;
    r->has_topology = m->accessible_topology != NULL;
    if (r->has_topology && decode_topology(a, m->accessible_topology, &r->topology, err) < 0)
        return -1;
    *ret = r;
    return 0;
}

/* 0 = unset: *ret stays NULL. */
static int encode_optional(struct arena *a, uint64_t value, Google__Protobuf__Int64Value **ret,
                           struct error *err)
{
    if (value == 0)
        return 0;
    Google__Protobuf__Int64Value *m = codec_new(a, &google__protobuf__int64_value__descriptor, err);
    if (m == NULL)
        return -1;
    m->value = codec_int64(value);
    *ret = m;
    return 0;
}

int run_get_capacity(const struct csi_service *s, struct csi_call *call, const void *request,
                     ProtobufCMessage **ret, struct error *err)
{
    struct csi_capacity_reply reply = { .available = 0 };
    if (s->controller->get_capacity(s->ctx, call, request, &reply, err) < 0)
        return -1;
    struct arena *a = call->arena;
    Csi__V1__GetCapacityResponse *m =
        codec_new(a, &csi__v1__get_capacity_response__descriptor, err);
    if (m == NULL ||
        encode_optional(a, reply.minimum_volume_size, &m->minimum_volume_size, err) < 0 ||
        encode_optional(a, reply.maximum_volume_size, &m->maximum_volume_size, err) < 0)
        return -1;
    m->available_capacity = codec_int64(reply.available);
    *ret = &m->base;
    return 0;
}

static Csi__V1__ControllerServiceCapability *
rpc_cap(struct arena *a, Csi__V1__ControllerServiceCapability__RPC__Type type, struct error *err)
{
    Csi__V1__ControllerServiceCapability *m =
        codec_new(a, &csi__v1__controller_service_capability__descriptor, err);
    Csi__V1__ControllerServiceCapability__RPC *rpc =
        codec_new(a, &csi__v1__controller_service_capability__rpc__descriptor, err);
    if (m == NULL || rpc == NULL)
        return NULL;
    rpc->type = type;
    m->type_case = CSI__V1__CONTROLLER_SERVICE_CAPABILITY__TYPE_RPC;
    m->rpc = rpc;
    return m;
}

#define CONTROLLER_CAP(name) CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__##name

int run_controller_get_capabilities(const struct csi_service *s, struct csi_call *call,
                                    const void *request, ProtobufCMessage **ret, struct error *err)
{
    struct csi_controller_caps caps = { .create_delete = false };
    if (s->controller->get_capabilities(s->ctx, call, &caps, err) < 0)
        return -1;
    const struct {
        bool on;
        Csi__V1__ControllerServiceCapability__RPC__Type type;
    } all[] = {
        { caps.create_delete, CONTROLLER_CAP(CREATE_DELETE_VOLUME) },
        { caps.list_volumes, CONTROLLER_CAP(LIST_VOLUMES) },
        { caps.get_capacity, CONTROLLER_CAP(GET_CAPACITY) },
        { caps.expand, CONTROLLER_CAP(EXPAND_VOLUME) },
        { caps.single_node_multi_writer, CONTROLLER_CAP(SINGLE_NODE_MULTI_WRITER) },
    };
    struct arena *a = call->arena;
    Csi__V1__ControllerGetCapabilitiesResponse *m =
        codec_new(a, &csi__v1__controller_get_capabilities_response__descriptor, err);
    Csi__V1__ControllerServiceCapability **items =
        codec_alloc(a, ARRAY_SIZE(all), sizeof(*items), err);
    if (m == NULL || items == NULL)
        return -1;
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        if (all[i].on && (items[n++] = rpc_cap(a, all[i].type, err)) == NULL)
            return -1;
    m->capabilities = items;
    m->n_capabilities = n;
    *ret = &m->base;
    return 0;
}

int decode_controller_expand(struct arena *a, const ProtobufCMessage *msg, const void **ret,
                             struct error *err)
{
    const Csi__V1__ControllerExpandVolumeRequest *m =
        (const Csi__V1__ControllerExpandVolumeRequest *)msg;
    struct csi_expand_request *r = codec_alloc(a, 1, sizeof(*r), err);
    if (r == NULL || codec_require("volume_id", m->volume_id, err) < 0)
        return -1;
    if (m->capacity_range == NULL)
        return error_set(err, ERR_INVALID, "capacity_range is missing");
    r->volume_id = m->volume_id;
    r->volume_path = r->staging_target_path = "";
    r->has_capability = m->volume_capability != NULL;
    if (decode_range(m->capacity_range, &r->has_range, &r->required_bytes, &r->limit_bytes, err) <
            0 ||
        decode_map(a, m->secrets, m->n_secrets, &r->secrets, err) < 0)
        return -1;
    if (r->has_capability &&
        decode_capability(m->volume_capability, "volume_capability", &r->capability, err) < 0)
        return -1;
    *ret = r;
    return 0;
}

int run_controller_expand(const struct csi_service *s, struct csi_call *call, const void *request,
                          ProtobufCMessage **ret, struct error *err)
{
    struct csi_controller_expand_reply reply = { .capacity_bytes = 0 };
    if (s->controller->expand_volume(s->ctx, call, request, &reply, err) < 0)
        return -1;
    Csi__V1__ControllerExpandVolumeResponse *m =
        codec_new(call->arena, &csi__v1__controller_expand_volume_response__descriptor, err);
    if (m == NULL)
        return -1;
    m->capacity_bytes = codec_int64(reply.capacity_bytes);
    m->node_expansion_required = reply.node_expansion_required;
    *ret = &m->base;
    return 0;
}

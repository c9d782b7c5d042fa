/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "csi/codec.h"

int decode_stage(struct arena *a, const ProtobufCMessage *msg, const void **ret, struct error *err)
{
    const Csi__V1__NodeStageVolumeRequest *m = (const Csi__V1__NodeStageVolumeRequest *)msg;
    struct csi_stage_request *r = codec_alloc(a, 1, sizeof(*r), err);
    if (r == NULL || codec_require("volume_id", m->volume_id, err) < 0 ||
        codec_require("staging_target_path", m->staging_target_path, err) < 0 ||
        decode_capability(m->volume_capability, "volume_capability", &r->capability, err) < 0 ||
        decode_map(a, m->publish_context, m->n_publish_context, &r->publish_context, err) < 0 ||
        decode_map(a, m->volume_context, m->n_volume_context, &r->volume_context, err) < 0 ||
        decode_map(a, m->secrets, m->n_secrets, &r->secrets, err) < 0)
        return -1;
    r->volume_id = m->volume_id;
    r->staging_target_path = m->staging_target_path;
    *ret = r;
    return 0;
}

int run_stage(const struct csi_service *s, struct csi_call *call, const void *request,
              ProtobufCMessage **ret, struct error *err)
{
    if (s->node->stage_volume(s->ctx, call, request, err) < 0)
        return -1;
    *ret = codec_new(call->arena, &csi__v1__node_stage_volume_response__descriptor, err);
    return *ret == NULL ? -1 : 0;
}

int decode_unstage(struct arena *a, const ProtobufCMessage *msg, const void **ret,
                   struct error *err)
{
    const Csi__V1__NodeUnstageVolumeRequest *m = (const Csi__V1__NodeUnstageVolumeRequest *)msg;
    struct csi_unstage_request *r = codec_alloc(a, 1, sizeof(*r), err);
    if (r == NULL || codec_require("volume_id", m->volume_id, err) < 0 ||
        codec_require("staging_target_path", m->staging_target_path, err) < 0)
        return -1;
    *r = (struct csi_unstage_request){ .volume_id = m->volume_id,
                                       .staging_target_path = m->staging_target_path };
    *ret = r;
    return 0;
}

int run_unstage(const struct csi_service *s, struct csi_call *call, const void *request,
                ProtobufCMessage **ret, struct error *err)
{
    if (s->node->unstage_volume(s->ctx, call, request, err) < 0)
        return -1;
    *ret = codec_new(call->arena, &csi__v1__node_unstage_volume_response__descriptor, err);
    return *ret == NULL ? -1 : 0;
}

/* staging_target_path may be empty here: the spec has FAILED_PRECONDITION for that, which is the
 * op's to say. */
int decode_publish(struct arena *a, const ProtobufCMessage *msg, const void **ret,
                   struct error *err)
{
    const Csi__V1__NodePublishVolumeRequest *m = (const Csi__V1__NodePublishVolumeRequest *)msg;
    struct csi_publish_request *r = codec_alloc(a, 1, sizeof(*r), err);
    if (r == NULL || codec_require("volume_id", m->volume_id, err) < 0 ||
        codec_require("target_path", m->target_path, err) < 0 ||
        decode_capability(m->volume_capability, "volume_capability", &r->capability, err) < 0 ||
        decode_map(a, m->publish_context, m->n_publish_context, &r->publish_context, err) < 0 ||
        decode_map(a, m->volume_context, m->n_volume_context, &r->volume_context, err) < 0 ||
        decode_map(a, m->secrets, m->n_secrets, &r->secrets, err) < 0)
        return -1;
    r->volume_id = m->volume_id;
    r->staging_target_path = m->staging_target_path;
    r->target_path = m->target_path;
    r->readonly = m->readonly;
    *ret = r;
    return 0;
}

int run_publish(const struct csi_service *s, struct csi_call *call, const void *request,
                ProtobufCMessage **ret, struct error *err)
{
    if (s->node->publish_volume(s->ctx, call, request, err) < 0)
        return -1;
    *ret = codec_new(call->arena, &csi__v1__node_publish_volume_response__descriptor, err);
    return *ret == NULL ? -1 : 0;
}

int decode_unpublish(struct arena *a, const ProtobufCMessage *msg, const void **ret,
                     struct error *err)
{
    const Csi__V1__NodeUnpublishVolumeRequest *m = (const Csi__V1__NodeUnpublishVolumeRequest *)msg;
    struct csi_unpublish_request *r = codec_alloc(a, 1, sizeof(*r), err);
    if (r == NULL || codec_require("volume_id", m->volume_id, err) < 0 ||
        codec_require("target_path", m->target_path, err) < 0)
        return -1;
    *r = (struct csi_unpublish_request){ .volume_id = m->volume_id, .target_path = m->target_path };
    *ret = r;
    return 0;
}

int run_unpublish(const struct csi_service *s, struct csi_call *call, const void *request,
                  ProtobufCMessage **ret, struct error *err)
{
    if (s->node->unpublish_volume(s->ctx, call, request, err) < 0)
        return -1;
    *ret = codec_new(call->arena, &csi__v1__node_unpublish_volume_response__descriptor, err);
    return *ret == NULL ? -1 : 0;
}

int decode_stats(struct arena *a, const ProtobufCMessage *msg, const void **ret, struct error *err)
{
    const Csi__V1__NodeGetVolumeStatsRequest *m = (const Csi__V1__NodeGetVolumeStatsRequest *)msg;
    struct csi_stats_request *r = codec_alloc(a, 1, sizeof(*r), err);
    if (r == NULL || codec_require("volume_id", m->volume_id, err) < 0 ||
        codec_require("volume_path", m->volume_path, err) < 0)
        return -1;
    *r = (struct csi_stats_request){ .volume_id = m->volume_id,
                                     .volume_path = m->volume_path,
                                     .staging_target_path = m->staging_target_path };
    *ret = r;
    return 0;
}

int run_stats(const struct csi_service *s, struct csi_call *call, const void *request,
              ProtobufCMessage **ret, struct error *err)
{
    struct csi_stats_reply stats = { .n = 0 };
    if (s->node->get_volume_stats(s->ctx, call, request, &stats, err) < 0)
        return -1;
    struct arena *a = call->arena;
    Csi__V1__NodeGetVolumeStatsResponse *m =
        codec_new(a, &csi__v1__node_get_volume_stats_response__descriptor, err);
    Csi__V1__VolumeUsage **usage = codec_alloc(a, ARRAY_SIZE(stats.usage), sizeof(*usage), err);
    if (m == NULL || usage == NULL)
        return -1;
    for (size_t i = 0; i < stats.n && i < ARRAY_SIZE(stats.usage); i++) {
        Csi__V1__VolumeUsage *u = codec_new(a, &csi__v1__volume_usage__descriptor, err);
        if (u == NULL)
            return -1;
        u->available = codec_int64(stats.usage[i].available);
        u->total = codec_int64(stats.usage[i].total);
        u->used = codec_int64(stats.usage[i].used);
        u->unit = (Csi__V1__VolumeUsage__Unit)stats.usage[i].unit;
        usage[m->n_usage++] = u;
    }
    m->usage = usage;
    *ret = &m->base;
    return 0;
}

int decode_node_expand(struct arena *a, const ProtobufCMessage *msg, const void **ret,
                       struct error *err)
{
    const Csi__V1__NodeExpandVolumeRequest *m = (const Csi__V1__NodeExpandVolumeRequest *)msg;
    struct csi_expand_request *r = codec_alloc(a, 1, sizeof(*r), err);
    if (r == NULL || codec_require("volume_id", m->volume_id, err) < 0 ||
        codec_require("volume_path", m->volume_path, err) < 0 ||
        decode_range(m->capacity_range, &r->has_range, &r->required_bytes, &r->limit_bytes, err) <
            0 ||
        decode_map(a, m->secrets, m->n_secrets, &r->secrets, err) < 0)
        return -1;
    r->volume_id = m->volume_id;
    r->volume_path = m->volume_path;
    r->staging_target_path = m->staging_target_path;
    r->has_capability = m->volume_capability != NULL;
    if (r->has_capability &&
        decode_capability(m->volume_capability, "volume_capability", &r->capability, err) < 0)
        return -1;
    *ret = r;
    return 0;
}

int run_node_expand(const struct csi_service *s, struct csi_call *call, const void *request,
                    ProtobufCMessage **ret, struct error *err)
{
    struct csi_node_expand_reply reply = { .capacity_bytes = 0 };
    if (s->node->expand_volume(s->ctx, call, request, &reply, err) < 0)
        return -1;
    Csi__V1__NodeExpandVolumeResponse *m =
        codec_new(call->arena, &csi__v1__node_expand_volume_response__descriptor, err);
    if (m == NULL)
        return -1;
    m->capacity_bytes = codec_int64(reply.capacity_bytes);
    *ret = &m->base;
    return 0;
}

static Csi__V1__NodeServiceCapability *
rpc_cap(struct arena *a, Csi__V1__NodeServiceCapability__RPC__Type type, struct error *err)
{
    Csi__V1__NodeServiceCapability *m =
        codec_new(a, &csi__v1__node_service_capability__descriptor, err);
    Csi__V1__NodeServiceCapability__RPC *rpc =
        codec_new(a, &csi__v1__node_service_capability__rpc__descriptor, err);
    if (m == NULL || rpc == NULL)
        return NULL;
    rpc->type = type;
    m->type_case = CSI__V1__NODE_SERVICE_CAPABILITY__TYPE_RPC;
    m->rpc = rpc;
    return m;
}

#define NODE_CAP(name) CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__##name

int run_node_get_capabilities(const struct csi_service *s, struct csi_call *call,
                              const void *request, ProtobufCMessage **ret, struct error *err)
{
    struct csi_node_caps caps = { .stage_unstage = false };
    if (s->node->get_capabilities(s->ctx, call, &caps, err) < 0)
        return -1;
    const struct {
        bool on;
        Csi__V1__NodeServiceCapability__RPC__Type type;
    } all[] = {
        { caps.stage_unstage, NODE_CAP(STAGE_UNSTAGE_VOLUME) },
        { caps.get_volume_stats, NODE_CAP(GET_VOLUME_STATS) },
        { caps.expand, NODE_CAP(EXPAND_VOLUME) },
        { caps.single_node_multi_writer, NODE_CAP(SINGLE_NODE_MULTI_WRITER) },
    };
    struct arena *a = call->arena;
    Csi__V1__NodeGetCapabilitiesResponse *m =
        codec_new(a, &csi__v1__node_get_capabilities_response__descriptor, err);
    Csi__V1__NodeServiceCapability **items = codec_alloc(a, ARRAY_SIZE(all), sizeof(*items), err);
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

int run_node_get_info(const struct csi_service *s, struct csi_call *call, const void *request,
                      ProtobufCMessage **ret, struct error *err)
{
    struct csi_node_info info = { .node_id = "" };
    if (s->node->get_info(s->ctx, call, &info, err) < 0)
        return -1;
    Csi__V1__NodeGetInfoResponse *m =
        codec_new(call->arena, &csi__v1__node_get_info_response__descriptor, err);
    if (m == NULL ||
        (info.topology.segments.n > 0 &&
         encode_topology(call->arena, &info.topology, &m->accessible_topology, err) < 0))
        return -1;
    m->node_id = codec_string(info.node_id);
    m->max_volumes_per_node = codec_int64(info.max_volumes);
    *ret = &m->base;
    return 0;
}

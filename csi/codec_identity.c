/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "csi/codec.h"

int run_get_plugin_info(const struct csi_service *s, struct csi_call *call, const void *request,
                        ProtobufCMessage **ret, struct error *err)
{
    struct csi_plugin_info info = { .name = "", .vendor_version = "" };
    if (s->identity->get_plugin_info(s->ctx, call, &info, err) < 0)
        return -1;
    Csi__V1__GetPluginInfoResponse *m =
        codec_new(call->arena, &csi__v1__get_plugin_info_response__descriptor, err);
    if (m == NULL)
        return -1;
    m->name = codec_string(info.name);
    m->vendor_version = codec_string(info.vendor_version);
    *ret = &m->base;
    return 0;
}

static Csi__V1__PluginCapability *
service_cap(struct arena *a, Csi__V1__PluginCapability__Service__Type type, struct error *err)
{
    Csi__V1__PluginCapability *m = codec_new(a, &csi__v1__plugin_capability__descriptor, err);
    Csi__V1__PluginCapability__Service *s =
        codec_new(a, &csi__v1__plugin_capability__service__descriptor, err);
    if (m == NULL || s == NULL)
        return NULL;
    s->type = type;
    m->type_case = CSI__V1__PLUGIN_CAPABILITY__TYPE_SERVICE;
    m->service = s;
    return m;
}

static Csi__V1__PluginCapability *expansion_cap(struct arena *a, struct error *err)
{
    Csi__V1__PluginCapability *m = codec_new(a, &csi__v1__plugin_capability__descriptor, err);
    Csi__V1__PluginCapability__VolumeExpansion *e =
        codec_new(a, &csi__v1__plugin_capability__volume_expansion__descriptor, err);
    if (m == NULL || e == NULL)
        return NULL;
    e->type = CSI__V1__PLUGIN_CAPABILITY__VOLUME_EXPANSION__TYPE__ONLINE;
    m->type_case = CSI__V1__PLUGIN_CAPABILITY__TYPE_VOLUME_EXPANSION;
    m->volume_expansion = e;
    return m;
}

int run_get_plugin_capabilities(const struct csi_service *s, struct csi_call *call,
                                const void *request, ProtobufCMessage **ret, struct error *err)
{
    struct csi_plugin_caps caps = { .controller_service = false };
    if (s->identity->get_plugin_capabilities(s->ctx, call, &caps, err) < 0)
        return -1;
    struct arena *a = call->arena;
    Csi__V1__GetPluginCapabilitiesResponse *m =
        codec_new(a, &csi__v1__get_plugin_capabilities_response__descriptor, err);
    Csi__V1__PluginCapability **items = codec_alloc(a, 3, sizeof(*items), err);
    if (m == NULL || items == NULL)
        return -1;
    size_t n = 0;
    if (caps.controller_service)
        items[n++] =
            service_cap(a, CSI__V1__PLUGIN_CAPABILITY__SERVICE__TYPE__CONTROLLER_SERVICE, err);
    if (caps.accessibility_constraints)
        items[n++] = service_cap(
            a, CSI__V1__PLUGIN_CAPABILITY__SERVICE__TYPE__VOLUME_ACCESSIBILITY_CONSTRAINTS, err);
    if (caps.online_expansion)
        items[n++] = expansion_cap(a, err);
    for (size_t i = 0; i < n; i++)
        if (items[i] == NULL)
            return -1;
    m->capabilities = items;
    m->n_capabilities = n;
    *ret = &m->base;
    return 0;
}

int run_probe(const struct csi_service *s, struct csi_call *call, const void *request,
              ProtobufCMessage **ret, struct error *err)
{
    bool ready = false;
    if (s->identity->probe(s->ctx, call, &ready, err) < 0)
        return -1;
    Csi__V1__ProbeResponse *m = codec_new(call->arena, &csi__v1__probe_response__descriptor, err);
    Google__Protobuf__BoolValue *value =
        codec_new(call->arena, &google__protobuf__bool_value__descriptor, err);
    if (m == NULL || value == NULL)
        return -1;
    value->value = ready;
    m->ready = value;
    *ret = &m->base;
    return 0;
}

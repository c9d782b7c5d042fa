/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "csi/codec.h"

#include "plugin_registration.pb-c.h"

int run_registration_info(const struct csi_service *s, struct csi_call *call, const void *request,
                          ProtobufCMessage **ret, struct error *err)
{
    struct csi_registration_info info = { .type = "", .name = "", .endpoint = "" };
    if (s->registration->get_info(s->ctx, call, &info, err) < 0)
        return -1;
    Pluginregistration__PluginInfo *m =
        codec_new(call->arena, &pluginregistration__plugin_info__descriptor, err);
    char **versions = codec_alloc(call->arena, info.versions.n, sizeof(*versions), err);
    if (m == NULL || versions == NULL)
        return -1;
    for (size_t i = 0; i < info.versions.n; i++)
        versions[i] = codec_string(info.versions.items[i]);
    m->type = codec_string(info.type);
    m->name = codec_string(info.name);
    m->endpoint = codec_string(info.endpoint);
    m->supported_versions = versions;
    m->n_supported_versions = info.versions.n;
    *ret = &m->base;
    return 0;
}

int decode_registration_status(struct arena *a, const ProtobufCMessage *msg, const void **ret,
                               struct error *err)
{
    const Pluginregistration__RegistrationStatus *m =
        (const Pluginregistration__RegistrationStatus *)msg;
    struct csi_registration_status *r = codec_alloc(a, 1, sizeof(*r), err);
    if (r == NULL)
        return -1;
    *r = (struct csi_registration_status){ .registered = m->plugin_registered != 0,
                                           .error = m->error };
    *ret = r;
    return 0;
}

int run_registration_status(const struct csi_service *s, struct csi_call *call, const void *request,
                            ProtobufCMessage **ret, struct error *err)
{
    if (s->registration->notify(s->ctx, call, request, err) < 0)
        return -1;
    *ret =
        codec_new(call->arena, &pluginregistration__registration_status_response__descriptor, err);
    return *ret == NULL ? -1 : 0;
}

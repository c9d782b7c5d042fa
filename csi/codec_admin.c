/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "csi/codec.h"

#include "coffer_admin.pb-c.h"

int decode_unlock_key(struct arena *a, const ProtobufCMessage *msg, const void **ret,
                      struct error *err)
{
    const Coffer__V1__UnlockKeyRequest *m = (const Coffer__V1__UnlockKeyRequest *)msg;
    struct csi_unlock_key_request *r = codec_alloc(a, 1, sizeof(*r), err);
    if (r == NULL || codec_require("volume_id", m->volume_id, err) < 0 ||
        codec_require("reason", m->reason, err) < 0)
        return -1;
    if (m->output_pid == 0)
        return error_set(err, ERR_INVALID, "output_pid is missing");
    *r = (struct csi_unlock_key_request){ .volume_id = m->volume_id,
                                          .output_pid = m->output_pid,
                                          .output_fd = m->output_fd,
                                          .reason = m->reason };
    *ret = r;
    return 0;
}

int run_unlock_key(const struct csi_service *s, struct csi_call *call, const void *request,
                   ProtobufCMessage **ret, struct error *err)
{
    if (s->admin->unlock_key(s->ctx, call, request, err) < 0)
        return -1;
    *ret = codec_new(call->arena, &coffer__v1__unlock_key_response__descriptor, err);
    return *ret == NULL ? -1 : 0;
}

int decode_rotate_key(struct arena *a, const ProtobufCMessage *msg, const void **ret,
                      struct error *err)
{
    const Coffer__V1__RotateKeyRequest *m = (const Coffer__V1__RotateKeyRequest *)msg;
    struct csi_rotate_key_request *r = codec_alloc(a, 1, sizeof(*r), err);
    if (r == NULL || codec_require("volume_id", m->volume_id, err) < 0 ||
        decode_map(a, m->secrets, m->n_secrets, &r->secrets, err) < 0 ||
        decode_map(a, m->new_secrets, m->n_new_secrets, &r->new_secrets, err) < 0)
        return -1;
    r->volume_id = m->volume_id;
    r->reason = m->reason;
    *ret = r;
    return 0;
}

int run_rotate_key(const struct csi_service *s, struct csi_call *call, const void *request,
                   ProtobufCMessage **ret, struct error *err)
{
    struct csi_rotate_key_reply reply = { .resumed = false };
    if (s->admin->rotate_key(s->ctx, call, request, &reply, err) < 0)
        return -1;
    Coffer__V1__RotateKeyResponse *m =
        codec_new(call->arena, &coffer__v1__rotate_key_response__descriptor, err);
    if (m == NULL)
        return -1;
    m->resumed = reply.resumed;
    m->key_version = reply.key_version;
    *ret = &m->base;
    return 0;
}

int decode_reconcile(struct arena *a, const ProtobufCMessage *msg, const void **ret,
                     struct error *err)
{
    const Coffer__V1__ReconcileRequest *m = (const Coffer__V1__ReconcileRequest *)msg;
    struct csi_reconcile_request *r = codec_alloc(a, 1, sizeof(*r), err);
    if (r == NULL)
        return -1;
    r->dry_run = m->dry_run != 0;
    *ret = r;
    return 0;
}

static Coffer__V1__LeftOver *encode_left_over(struct arena *a, const struct csi_left_over *l,
                                              struct error *err)
{
    Coffer__V1__LeftOver *m = codec_new(a, &coffer__v1__left_over__descriptor, err);
    if (m == NULL)
        return NULL;
    m->kind = codec_string(l->kind);
    m->what = codec_string(l->what);
    m->volume_id = codec_string(l->volume_id);
    m->why = codec_string(l->why);
    m->action = codec_string(l->action);
    m->result = codec_string(l->result);
    m->problem = codec_string(l->problem);
    return m;
}

int run_reconcile(const struct csi_service *s, struct csi_call *call, const void *request,
                  ProtobufCMessage **ret, struct error *err)
{
    struct csi_reconcile_reply reply = { .n = 0 };
    if (s->admin->reconcile(s->ctx, call, request, &reply, err) < 0)
        return -1;
    Coffer__V1__ReconcileResponse *m =
        codec_new(call->arena, &coffer__v1__reconcile_response__descriptor, err);
    Coffer__V1__LeftOver **items = codec_alloc(call->arena, reply.n, sizeof(*items), err);
    if (m == NULL || items == NULL)
        return -1;
    for (size_t i = 0; i < reply.n; i++) {
        items[i] = encode_left_over(call->arena, &reply.items[i], err);
        if (items[i] == NULL)
            return -1;
    }
    m->left_overs = items;
    m->n_left_overs = reply.n;
    m->truncated = reply.truncated;
    *ret = &m->base;
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "csi/codec.h"

#include "coffer_admin.pb-c.h"

int decode_add_recipient(struct arena *a, const ProtobufCMessage *msg, const void **ret,
                         struct error *err)
{
    const Coffer__V1__AddRecipientRequest *m = (const Coffer__V1__AddRecipientRequest *)msg;
    struct csi_add_recipient_request *r = codec_alloc(a, 1, sizeof(*r), err);
    if (r == NULL || codec_require("volume_id", m->volume_id, err) < 0 ||
        codec_require("public_key", m->public_key, err) < 0 ||
        codec_require("algorithm", m->algorithm, err) < 0 ||
        decode_map(a, m->secrets, m->n_secrets, &r->secrets, err) < 0)
        return -1;
    r->volume_id = m->volume_id;
    r->public_key = m->public_key;
    r->algorithm = m->algorithm;
    r->label = m->label;
    r->reason = m->reason;
    r->wrapped = m->wrapped;
    *ret = r;
    return 0;
}

Coffer__V1__Recipient *encode_recipient(struct arena *a, const struct csi_recipient *r,
                                        struct error *err)
{
    Coffer__V1__Recipient *m = codec_new(a, &coffer__v1__recipient__descriptor, err);
    if (m == NULL)
        return NULL;
    m->fingerprint = codec_string(r->fingerprint);
    m->algorithm = codec_string(r->algorithm);
    m->label = codec_string(r->label);
    m->public_key = codec_string(r->public_key);
    m->wrapped = codec_string(r->wrapped);
    return m;
}

int run_add_recipient(const struct csi_service *s, struct csi_call *call, const void *request,
                      ProtobufCMessage **ret, struct error *err)
{
    struct csi_add_recipient_reply reply = { .already = false };
    if (s->admin->add_recipient(s->ctx, call, request, &reply, err) < 0)
        return -1;
    Coffer__V1__AddRecipientResponse *m =
        codec_new(call->arena, &coffer__v1__add_recipient_response__descriptor, err);
    if (m == NULL)
        return -1;
    m->already = reply.already;
    m->recipient = encode_recipient(call->arena, &reply.recipient, err);
    if (m->recipient == NULL)
        return -1;
    *ret = &m->base;
    return 0;
}

int decode_remove_recipient(struct arena *a, const ProtobufCMessage *msg, const void **ret,
                            struct error *err)
{
    const Coffer__V1__RemoveRecipientRequest *m = (const Coffer__V1__RemoveRecipientRequest *)msg;
    struct csi_remove_recipient_request *r = codec_alloc(a, 1, sizeof(*r), err);
    if (r == NULL || codec_require("volume_id", m->volume_id, err) < 0 ||
        codec_require("fingerprint", m->fingerprint, err) < 0 ||
        decode_map(a, m->secrets, m->n_secrets, &r->secrets, err) < 0 ||
        decode_map(a, m->new_secrets, m->n_new_secrets, &r->new_secrets, err) < 0)
        return -1;
    r->volume_id = m->volume_id;
    r->fingerprint = m->fingerprint;
    r->reason = m->reason;
    *ret = r;
    return 0;
}

int run_remove_recipient(const struct csi_service *s, struct csi_call *call, const void *request,
                         ProtobufCMessage **ret, struct error *err)
{
    struct csi_rotate_key_reply reply = { .resumed = false };
    if (s->admin->remove_recipient(s->ctx, call, request, &reply, err) < 0)
        return -1;
    Coffer__V1__RemoveRecipientResponse *m =
        codec_new(call->arena, &coffer__v1__remove_recipient_response__descriptor, err);
    if (m == NULL)
        return -1;
    m->resumed = reply.resumed;
    m->key_version = reply.key_version;
    *ret = &m->base;
    return 0;
}

int decode_list_recipients(struct arena *a, const ProtobufCMessage *msg, const void **ret,
                           struct error *err)
{
    const Coffer__V1__ListRecipientsRequest *m = (const Coffer__V1__ListRecipientsRequest *)msg;
    struct csi_list_recipients_request *r = codec_alloc(a, 1, sizeof(*r), err);
    if (r == NULL || codec_require("volume_id", m->volume_id, err) < 0 ||
        decode_map(a, m->secrets, m->n_secrets, &r->secrets, err) < 0)
        return -1;
    r->volume_id = m->volume_id;
    *ret = r;
    return 0;
}

int run_list_recipients(const struct csi_service *s, struct csi_call *call, const void *request,
                        ProtobufCMessage **ret, struct error *err)
{
    struct csi_list_recipients_reply reply = { .n = 0 };
    if (s->admin->list_recipients(s->ctx, call, request, &reply, err) < 0)
        return -1;
    Coffer__V1__ListRecipientsResponse *m =
        codec_new(call->arena, &coffer__v1__list_recipients_response__descriptor, err);
    if (m == NULL)
        return -1;
    m->recipients = codec_alloc(call->arena, reply.n, sizeof(*m->recipients), err);
    if (m->recipients == NULL)
        return -1;
    for (; m->n_recipients < reply.n; m->n_recipients++) {
        m->recipients[m->n_recipients] =
            encode_recipient(call->arena, &reply.items[m->n_recipients], err);
        if (m->recipients[m->n_recipients] == NULL)
            return -1;
    }
    *ret = &m->base;
    return 0;
}

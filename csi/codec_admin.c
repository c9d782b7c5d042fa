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

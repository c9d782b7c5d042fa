/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "csi/codec.h"

#include "coffer_admin.pb-c.h"

int decode_describe(struct arena *a, const ProtobufCMessage *msg, const void **ret,
                    struct error *err)
{
    const Coffer__V1__DescribeVolumesRequest *m = (const Coffer__V1__DescribeVolumesRequest *)msg;
    struct csi_describe_request *r = codec_alloc(a, 1, sizeof(*r), err);
    if (r == NULL)
        return -1;
    if (m->name[0] != '\0' && (m->name_prefix[0] != '\0' || m->starting_token[0] != '\0'))
        return error_set(err, ERR_INVALID,
                         "name goes with neither name_prefix nor starting_token: it is of one "
                         "volume");
    *r = (struct csi_describe_request){ .name = m->name,
                                        .name_prefix = m->name_prefix,
                                        .starting_token = m->starting_token,
                                        .pool = m->pool,
                                        .max_entries = m->max_entries };
    *ret = r;
    return 0;
}

static int encode_recipients(struct arena *a, const struct csi_description *d,
                             Coffer__V1__VolumeDescription *m, struct error *err)
{
    m->recipients = codec_alloc(a, d->n_recipients, sizeof(*m->recipients), err);
    if (m->recipients == NULL)
        return -1;
    for (; m->n_recipients < d->n_recipients; m->n_recipients++) {
        m->recipients[m->n_recipients] = encode_recipient(a, &d->recipients[m->n_recipients], err);
        if (m->recipients[m->n_recipients] == NULL)
            return -1;
    }
    return 0;
}

static int encode_strings(struct arena *a, const struct csi_strings *list, size_t *ret_n,
                          char ***ret, struct error *err)
{
    char **items = codec_alloc(a, list->n, sizeof(*items), err);
    if (items == NULL)
        return -1;
    for (size_t i = 0; i < list->n; i++)
        items[i] = codec_string(list->items[i]);
    *ret = items;
    *ret_n = list->n;
    return 0;
}

static Coffer__V1__VolumeDescription *
encode_description(struct arena *a, const struct csi_description *d, struct error *err)
{
    Coffer__V1__VolumeDescription *m =
        codec_new(a, &coffer__v1__volume_description__descriptor, err);
    if (m == NULL || encode_recipients(a, d, m, err) < 0 ||
        encode_strings(a, &d->mounted_at, &m->n_mounted_at, &m->mounted_at, err) < 0)
        return NULL;
    m->volume_id = codec_string(d->volume_id);
    m->name = codec_string(d->name);
    m->uuid = codec_string(d->uuid);
    m->tenant = codec_string(d->tenant);
    m->kms = codec_string(d->kms);
    m->key_source = codec_string(d->key_source);
    m->commitment = codec_string(d->commitment);
    m->state = codec_string(d->state);
    m->fs = codec_string(d->fs);
    m->problem = codec_string(d->problem);
    m->size = d->size;
    m->open = d->open;
    return m;
}

static int encode_volumes(struct arena *a, const struct csi_describe_reply *reply,
                          Coffer__V1__DescribeVolumesResponse *m, struct error *err)
{
    m->volumes = codec_alloc(a, reply->n, sizeof(*m->volumes), err);
    if (m->volumes == NULL)
        return -1;
    for (; m->n_volumes < reply->n; m->n_volumes++) {
        m->volumes[m->n_volumes] = encode_description(a, &reply->items[m->n_volumes], err);
        if (m->volumes[m->n_volumes] == NULL)
            return -1;
    }
    return 0;
}

int run_describe(const struct csi_service *s, struct csi_call *call, const void *request,
                 ProtobufCMessage **ret, struct error *err)
{
    struct csi_describe_reply reply = { .n = 0, .next_token = "" };
    void *tags = NULL;
    if (s->admin->describe_volumes(s->ctx, call, request, &reply, err) < 0)
        return -1;
    Coffer__V1__DescribeVolumesResponse *m =
        codec_new(call->arena, &coffer__v1__describe_volumes_response__descriptor, err);
    if (m == NULL || encode_volumes(call->arena, &reply, m, err) < 0 ||
        encode_map(call->arena, &coffer__v1__describe_volumes_response__pool_tags_entry__descriptor,
                   &reply.pool_tags, &m->n_pool_tags, &tags, err) < 0)
        return -1;
    m->pool_tags = tags;
    m->next_token = codec_string(reply.next_token);
    *ret = &m->base;
    return 0;
}

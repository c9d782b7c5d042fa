/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "csi/codec.h"

#include <assert.h>

/* What protobuf-c generates for every map<string, string> entry. */
struct map_entry {
    ProtobufCMessage base;
    char *key, *value;
};
static_assert(sizeof(struct map_entry) == sizeof(Csi__V1__Topology__SegmentsEntry) &&
                  offsetof(struct map_entry, key) ==
                      offsetof(Csi__V1__Topology__SegmentsEntry, key) &&
                  offsetof(struct map_entry, value) ==
                      offsetof(Csi__V1__Topology__SegmentsEntry, value),
              "every map entry has this layout");

static int no_room(struct error *err)
{
    return error_set(err, ERR_EXHAUSTED, "the call needs more memory than one call may use");
}

void *codec_new(struct arena *a, const ProtobufCMessageDescriptor *desc, struct error *err)
{
    ProtobufCMessage *m = arena_alloc(a, desc->sizeof_message);
    if (m == NULL)
        (void)no_room(err);
    else
        protobuf_c_message_init(desc, m);
    return m;
}

void *codec_alloc(struct arena *a, size_t n, size_t size, struct error *err)
{
    void *p = arena_alloc(a, (n > 0 ? n : 1) * size);
    if (p == NULL)
        (void)no_room(err);
    return p;
}

int codec_require(const char *field, const char *value, struct error *err)
{
    if (value[0] == '\0')
        return error_set(err, ERR_INVALID, "%s is missing", field);
    return 0;
}

int64_t codec_int64(uint64_t value)
{
    return value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

char *codec_string(const char *text)
{
    union {
        const char *in;
        char *out;
    } u = { .in = text != NULL ? text : "" };
    return u.out;
}

struct indexed {
    const char *key, *value;
    size_t at;
};

static int compare_indexed(const void *a, const void *b)
{
    const struct indexed *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    if (order != 0)
        return order;
    return x->at < y->at ? -1 : x->at > y->at;
}

int decode_map(struct arena *a, const void *entries, size_t n, struct csi_map *ret,
               struct error *err)
{
    const struct map_entry *const *in = entries;
    struct indexed *sorted = codec_alloc(a, n, sizeof(*sorted), err);
    struct csi_pair *pairs = sorted == NULL ? NULL : codec_alloc(a, n, sizeof(*pairs), err);
    if (pairs == NULL)
        return -1;
    for (size_t i = 0; i < n; i++)
        sorted[i] = (struct indexed){ in[i]->key, in[i]->value, i };
    qsort(sorted, n, sizeof(*sorted), compare_indexed);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (kept > 0 && strcmp(pairs[kept - 1].key, sorted[i].key) == 0)
            kept--; /* a later entry of the same key wins */
        pairs[kept++] = (struct csi_pair){ sorted[i].key, sorted[i].value };
    }
    *ret = (struct csi_map){ .items = pairs, .n = kept };
    return 0;
}

int decode_range(const Csi__V1__CapacityRange *range, bool *ret_has, uint64_t *ret_required,
                 uint64_t *ret_limit, struct error *err)
{
    if (range == NULL)
        return 0;
    if (range->required_bytes < 0 || range->limit_bytes < 0)
        return error_set(err, ERR_INVALID, "capacity_range is negative");
    if (range->limit_bytes > 0 && range->limit_bytes < range->required_bytes)
        return error_set(err, ERR_INVALID,
                         "capacity_range.limit_bytes is less than required_bytes");
    *ret_has = true;
    *ret_required = (uint64_t)range->required_bytes;
    *ret_limit = (uint64_t)range->limit_bytes;
    return 0;
}

static int decode_mode(const Csi__V1__VolumeCapability *m, const char *field,
                       enum csi_access_mode *ret, struct error *err)
{
    if (m->access_mode == NULL || m->access_mode->mode == 0)
        return error_set(err, ERR_INVALID, "%s.access_mode is missing", field);
    int mode = (int)m->access_mode->mode;
    if (mode < CSI_SINGLE_NODE_WRITER || mode > CSI_SINGLE_NODE_MULTI_WRITER)
        return error_set(err, ERR_INVALID, "%s.access_mode %d is not known", field, mode);
    *ret = (enum csi_access_mode)mode;
    return 0;
}

int decode_capability(const Csi__V1__VolumeCapability *m, const char *field,
                      struct csi_capability *ret, struct error *err)
{
    if (m == NULL)
        return error_set(err, ERR_INVALID, "%s is missing", field);
    struct csi_capability c = { .type = CSI_ACCESS_BLOCK, .fs_type = "", .volume_mount_group = "" };
    if (decode_mode(m, field, &c.mode, err) < 0)
        return -1;
    if (m->access_type_case == CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_MOUNT) {
        c.type = CSI_ACCESS_MOUNT;
        c.fs_type = m->mount->fs_type;
        c.mount_flags.items = (const char *const *)m->mount->mount_flags;
        c.mount_flags.n = m->mount->n_mount_flags;
        c.volume_mount_group = m->mount->volume_mount_group;
    } else if (m->access_type_case != CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_BLOCK) {
        return error_set(err, ERR_INVALID, "%s.access_type is missing: block or mount", field);
    }
    *ret = c;
    return 0;
}

int decode_capabilities(struct arena *a, Csi__V1__VolumeCapability *const *m, size_t n,
                        struct csi_capabilities *ret, struct error *err)
{
    struct csi_capability *items = codec_alloc(a, n, sizeof(*items), err);
    if (items == NULL)
        return -1;
    for (size_t i = 0; i < n; i++) {
        char field[48];
        (void)snprintf(field, sizeof(field), "volume_capabilities[%zu]", i);
        if (decode_capability(m[i], field, &items[i], err) < 0)
            return -1;
    }
    *ret = (struct csi_capabilities){ .items = items, .n = n };
    return 0;
}

int decode_topology(struct arena *a, const Csi__V1__Topology *m, struct csi_topology *ret,
                    struct error *err)
{
    return decode_map(a, m->segments, m->n_segments, &ret->segments, err);
}

int decode_topologies(struct arena *a, Csi__V1__Topology *const *m, size_t n,
                      struct csi_topologies *ret, struct error *err)
{
    struct csi_topology *items = codec_alloc(a, n, sizeof(*items), err);
    if (items == NULL)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (decode_topology(a, m[i], &items[i], err) < 0)
            return -1;
    *ret = (struct csi_topologies){ .items = items, .n = n };
    return 0;
}

int encode_map(struct arena *a, const ProtobufCMessageDescriptor *entry, const struct csi_map *map,
               size_t *ret_n, void **ret, struct error *err)
{
    struct map_entry **items = codec_alloc(a, map->n, sizeof(*items), err);
    if (items == NULL)
        return -1;
    for (size_t i = 0; i < map->n; i++) {
        items[i] = codec_new(a, entry, err);
        if (items[i] == NULL)
            return -1;
        items[i]->key = codec_string(map->items[i].key);
        items[i]->value = codec_string(map->items[i].value);
    }
    *ret = items;
    *ret_n = map->n;
    return 0;
}

int encode_topology(struct arena *a, const struct csi_topology *t, Csi__V1__Topology **ret,
                    struct error *err)
{
    Csi__V1__Topology *m = codec_new(a, &csi__v1__topology__descriptor, err);
    void *segments;
    if (m == NULL || encode_map(a, &csi__v1__topology__segments_entry__descriptor, &t->segments,
                                &m->n_segments, &segments, err) < 0)
        return -1;
    m->segments = segments;
    *ret = m;
    return 0;
}

int encode_volume(struct arena *a, const struct csi_volume *v, Csi__V1__Volume **ret,
                  struct error *err)
{
    Csi__V1__Volume *m = codec_new(a, &csi__v1__volume__descriptor, err);
    void *context;
    if (m == NULL || encode_map(a, &csi__v1__volume__volume_context_entry__descriptor,
                                &v->volume_context, &m->n_volume_context, &context, err) < 0)
        return -1;
    m->volume_context = context;
    m->capacity_bytes = codec_int64(v->capacity_bytes);
    m->volume_id = codec_string(v->volume_id);
    size_t n = v->accessible_topology.n;
    m->accessible_topology = codec_alloc(a, n, sizeof(*m->accessible_topology), err);
    if (m->accessible_topology == NULL)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (encode_topology(a, &v->accessible_topology.items[i], &m->accessible_topology[i], err) <
            0)
            return -1;
    m->n_accessible_topology = n;
    *ret = m;
    return 0;
}

static Csi__V1__VolumeCapability *encode_capability(struct arena *a, const struct csi_capability *c,
                                                    struct error *err)
{
    Csi__V1__VolumeCapability *m = codec_new(a, &csi__v1__volume_capability__descriptor, err);
    Csi__V1__VolumeCapability__AccessMode *mode =
        codec_new(a, &csi__v1__volume_capability__access_mode__descriptor, err);
    bool mount = c->type == CSI_ACCESS_MOUNT;
    void *type = codec_new(a,
                           mount ? &csi__v1__volume_capability__mount_volume__descriptor
                                 : &csi__v1__volume_capability__block_volume__descriptor,
                           err);
    if (m == NULL || mode == NULL || type == NULL)
        return NULL;
    mode->mode = (Csi__V1__VolumeCapability__AccessMode__Mode)c->mode;
    m->access_mode = mode;
    if (!mount) {
        m->access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_BLOCK;
        m->block = type;
        return m;
    }
    m->access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_MOUNT;
    m->mount = type;
    m->mount->fs_type = codec_string(c->fs_type);
    m->mount->volume_mount_group = codec_string(c->volume_mount_group);
    m->mount->mount_flags = codec_alloc(a, c->mount_flags.n, sizeof(char *), err);
    if (m->mount->mount_flags == NULL)
        return NULL;
    for (size_t i = 0; i < c->mount_flags.n; i++)
        m->mount->mount_flags[i] = codec_string(c->mount_flags.items[i]);
    m->mount->n_mount_flags = c->mount_flags.n;
    return m;
}

int encode_capabilities(struct arena *a, const struct csi_capabilities *c, size_t *ret_n,
                        Csi__V1__VolumeCapability ***ret, struct error *err)
{
    Csi__V1__VolumeCapability **items = codec_alloc(a, c->n, sizeof(*items), err);
    if (items == NULL)
        return -1;
    for (size_t i = 0; i < c->n; i++) {
        items[i] = encode_capability(a, &c->items[i], err);
        if (items[i] == NULL)
            return -1;
    }
    *ret = items;
    *ret_n = c->n;
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "controller/controller.h"

bool record_is_live(enum record_state state)
{
    return state != RECORD_MINTING && state != RECORD_ERASED;
}

/* Sorted by key, as all maps. */
static int fill_context(struct arena *arena, const struct record_summary *r, struct csi_map *ret)
{
    const struct csi_pair all[] = {
        { CONTEXT_DISCARD, r->discard ? "true" : NULL },
        { CONTEXT_KEY_SOURCE, r->key_source },
        { CONTEXT_KMS, r->kms },
        { CONTEXT_TENANT, r->tenant },
        { CONTEXT_IDENTITY, r->pod ? IDENTITY_POD : NULL },
        { CONTEXT_UUID, r->uuid },
    };
    struct csi_pair *items = arena_alloc(arena, sizeof(all));
    size_t n = 0;

    if (items == NULL)
        return -1;
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        if (all[i].value == NULL)
            continue;
        items[n] = (struct csi_pair){ all[i].key, arena_strdup(arena, all[i].value) };
        if (items[n++].value == NULL)
            return -1;
    }
    *ret = (struct csi_map){ .items = items, .n = n };
    return 0;
}

int reply_topology(const struct controller *c, struct arena *arena, struct csi_topologies *ret,
                   struct error *err)
{
    struct csi_pair *segment = arena_alloc(arena, sizeof(*segment));
    struct csi_topology *topology = arena_alloc(arena, sizeof(*topology));

    if (segment == NULL || topology == NULL)
        return error_set(err, ERR_EXHAUSTED, "out of memory for the reply");
    *segment = (struct csi_pair){ .key = c->topology_key, .value = c->node_id };
    *topology = (struct csi_topology){ .segments = { .items = segment, .n = 1 } };
    *ret = (struct csi_topologies){ .items = topology, .n = 1 };
    return 0;
}

int reply_volume(struct arena *arena, const char *id, const struct record_summary *r,
                 const struct csi_topologies *topology, struct csi_volume *ret, struct error *err)
{
    struct csi_volume v = { .capacity_bytes = r->size,
                            .volume_id = arena_strdup(arena, id),
                            .accessible_topology = *topology };

    if (v.volume_id == NULL || fill_context(arena, r, &v.volume_context) < 0)
        return error_set(err, ERR_EXHAUSTED, "out of memory for the reply");
    *ret = v;
    return 0;
}

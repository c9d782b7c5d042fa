/* SPDX-License-Identifier: Apache-2.0 */
/*
 * capacity.c: GetCapacity. Without parameters it speaks of all pools together, with parameters of
 * the pool that CreateVolume would use. One volume can't span pools, and has a header of 4 MiB
 * beside its size: that is what maximum_volume_size says.
 *
 * external-provisioner hands the StorageClass's parameters on as they are, with those that it keeps
 * for itself in CreateVolume (csi.storage.k8s.io/fstype, …-secret-name): refusing these would leave
 * the class without capacity, and so without a node.
 */
#include "common/base.h"
#include "controller/controller.h"

#include "volume/fskind.h"
#include "volume/geometry.h"

static int add_pool(struct pool *pool, struct csi_capacity_reply *sum, struct error *err)
{
    struct pool_capacity c;
    uint64_t largest;

    if (pool_ready(pool, err) < 0 || pool->ops->capacity(pool, &c, err) < 0)
        return -1;
    (void)pool_watch(pool);
    sum->available += c.available;
    largest = c.available > GEOMETRY_DATA_OFFSET ? c.available - GEOMETRY_DATA_OFFSET : 0;
    if (largest > GEOMETRY_SIZE_MAX)
        largest = GEOMETRY_SIZE_MAX;
    if (largest > sum->maximum_volume_size)
        sum->maximum_volume_size = largest;
    return 0;
}

static int all_pools(struct controller *c, struct csi_capacity_reply *sum, struct error *err)
{
    for (size_t i = 0; i < c->pools->n; i++) {
        if (add_pool(c->pools->pools[i], sum, err) < 0)
            return -1;
    }
    return 0;
}

#define SIDECAR_PREFIX "csi.storage.k8s.io/"

static int without_sidecar_keys(struct arena *arena, const struct csi_map *in, struct csi_map *ret,
                                struct error *err)
{
    struct csi_pair *items = arena_alloc(arena, (in->n + 1) * sizeof(*items));
    size_t n = 0;

    if (items == NULL)
        return error_set(err, ERR_EXHAUSTED, "out of memory for the parameters");
    for (size_t i = 0; i < in->n; i++)
        if (strncmp(in->items[i].key, SIDECAR_PREFIX, strlen(SIDECAR_PREFIX)) != 0)
            items[n++] = in->items[i];
    *ret = (struct csi_map){ .items = items, .n = n };
    return 0;
}

static int one_pool(struct controller *c, struct arena *arena, const struct csi_map *given,
                    struct csi_capacity_reply *sum, struct error *err)
{
    struct csi_map parameters;
    struct volume_params p;
    struct pool *pool;

    if (without_sidecar_keys(arena, given, &parameters, err) < 0 ||
        request_params(c, arena, &parameters, true, &p, NULL, err) < 0)
        return -1;
    pool = pool_set_find(c->pools, p.pool->name);
    if (pool == NULL)
        return error_set(err, ERR_INTERNAL, "pool '%s' was not opened", p.pool->name);
    return add_pool(pool, sum, err);
}

/* No volume of that kind can be made here: that is no error, it is no capacity. */
static bool is_for_us(const struct controller *c, const struct csi_capacity_request *req,
                      uint64_t *ret_minimum)
{
    struct error ignored = ERROR_INIT;
    const char *fs = FS_KIND_NONE;

    if (req->has_topology && req->topology.segments.n > 0 &&
        !request_topology_is_here(c, &req->topology))
        return false;
    if (req->capabilities.n > 0 && request_capabilities(&req->capabilities, &fs, &ignored) < 0)
        return false;
    *ret_minimum = fs_kind_find(fs[0] != '\0' ? fs : FS_KIND_DEFAULT)->size_min;
    return true;
}

int controller_capacity(void *ctx, struct csi_call *call, const struct csi_capacity_request *req,
                        struct csi_capacity_reply *ret, struct error *err)
{
    struct csi_capacity_reply sum = { .minimum_volume_size = GEOMETRY_SIZE_MIN };
    struct controller *c = ctx;

    if (req->parameters.n == 0 ? all_pools(c, &sum, err) < 0
                               : one_pool(c, call->arena, &req->parameters, &sum, err) < 0)
        return -1;
    if (!is_for_us(c, req, &sum.minimum_volume_size))
        sum = (struct csi_capacity_reply){ .available = 0 };
    *ret = sum;
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * expand.c: ControllerExpandVolume. Space first, record second: a kill between them leaves space
 * that the repeated call finds, never a record that promises what isn't there. Nothing of a live
 * mapping changes here; NodeExpandVolume makes loop, mapping and file system as large as the record
 * says.
 */
#include "common/base.h"
#include "controller/controller.h"

#include "common/fault.h"
#include "volume/fskind.h"
#include "volume/geometry.h"

static int grow(struct controller *c, struct volume *v, struct record *r, uint64_t size,
                struct error *err)
{
    if (v->pool->ops->allocate(v, size + GEOMETRY_DATA_OFFSET, err) < 0) {
        if (err->code == ERR_EXHAUSTED)
            (void)atomic_fetch_add(&c->counters.pool_full, 1);
        return -1;
    }
    FAULT_POINT("controller:expand:allocated");
    r->size = size;
    if (v->pool->ops->write_record(v, r, err) < 0)
        return -1;
    FAULT_POINT("controller:expand:recorded");
    (void)atomic_fetch_add(&c->counters.expanded, 1);
    return 0;
}

static int expand_locked(struct controller *c, const struct volume_id *id,
                         const struct size_range *range, uint64_t *ret_size, struct error *err)
{
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct pool *pool;
    struct record r;

    if (pool_set_for_id(c->pools, id, &pool, err) < 0 ||
        volume_open(pool, id, false, &v, err) < 0 || pool->ops->read_record(&v, &r, err) < 0)
        return -1;
    (void)pool_watch(pool);
    if (!record_is_live(r.state))
        return error_set(err, ERR_NOT_FOUND, "there is no such volume");
    FAULT_POINT("controller:expand:locked");
    if (range->limit != 0 && r.size > range->limit)
        return error_set(err, ERR_OUT_OF_RANGE,
                         "the volume has %llu bytes already, more than limit_bytes %llu; volumes "
                         "never shrink",
                         (unsigned long long)r.size, (unsigned long long)range->limit);
    if (range->required > r.size && grow(c, &v, &r, range->want, err) < 0)
        return -1;
    *ret_size = r.size;
    return 0;
}

int controller_expand(void *ctx, struct csi_call *call, const struct csi_expand_request *req,
                      struct csi_controller_expand_reply *ret, struct error *err)
{
    struct controller *c = ctx;
    AUTO_KEYLOCK struct keylock_hold *hold = NULL;
    struct size_range range;
    struct volume_id id;
    uint64_t size;

    if (!c->expand)
        return error_set(err, ERR_UNIMPLEMENTED,
                         "volumes grow on their node here (--expand=node): call NodeExpandVolume");
    if (!req->has_range)
        return error_set(err, ERR_INVALID, "capacity_range is missing");
    /* a volume that exists has its file system's minimum */
    if (request_size(FS_KIND_NONE, true, req->required_bytes, req->limit_bytes, &range, err) < 0 ||
        volume_id_parse(req->volume_id, &id, err) < 0 || request_lock(c, &id, &hold, err) < 0)
        return -1;
    if (expand_locked(c, &id, &range, &size, err) < 0)
        return error_prefix(err, "expand volume '%s'", req->volume_id);
    *ret = (struct csi_controller_expand_reply){ .capacity_bytes = size,
                                                 .node_expansion_required = true };
    return 0;
}

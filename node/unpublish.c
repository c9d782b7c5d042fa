/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unpublish.c: NodeUnpublish takes a target path away, and closes a volume that pods open after its
 * last one. It needs no pool, no record and no key: teardown must work when everything else is
 * gone. It never removes what isn't empty and never unmounts what isn't the volume's.
 */
#include "common/base.h"
#include "node/node.h"

#include "common/fault.h"
#include "common/holders.h"
#include "node/inline.h"
#include "node/mapper.h"
#include "node/mounts.h"
#include "node/op.h"
#include "node/pod.h"
#include "node/request.h"
#include "node/target.h"

#define MOUNTS_AT_ONE_PATH 16 /* more than that at one path isn't ours to undo */

static int unmount_named(struct node_op *op, const char *target, dev_t dev, struct error *err)
{
    char who[320];

    if (mount_remove(target, err) == 0)
        return 0;
    if (err->code == ERR_ABORTED) {
        node_count(op->node, NODE_BUSY);
        holders_describe(dev, who, sizeof(who));
        return error_set(err, ERR_ABORTED, "'%s' is busy: %s", target, who);
    }
    return -1;
}

/* 1: a mount of the volume was taken away, look again. 0: none is there. */
static int unmount_one(struct node_op *op, const char *target, dev_t dev, struct error *err)
{
    AUTO_MOUNT_TABLE struct mount_table table = { .items = NULL, .n = 0 };
    const struct mount_entry *entry;

    if (mount_table_load(&table, err) < 0)
        return -1;
    entry = mount_table_at(&table, target);
    if (entry == NULL)
        return 0;
    /* a raw block volume's node outlives a mapping that was lost, and its number may be another's
     * by now: then its name says whose it is */
    if (mount_match(entry, dev) == MOUNT_OURS || mount_is_node(entry, op->dm_name))
        return unmount_named(op, target, dev, err) < 0 ? -1 : 1;
    return error_set(err, ERR_PRECONDITION, "what is mounted at '%s' isn't volume '%s'", target,
                     op->id_text);
}

static int unmount_all(struct node_op *op, const char *target, struct error *err)
{
    struct live_mapping live = { .dev = 0 };
    struct error find_err = ERROR_INIT;

    if (mapper_find(op->dm_name, &live, &find_err) < 0 && find_err.code != ERR_NOT_FOUND)
        return error_pass(err, &find_err);
    for (int i = 0; i < MOUNTS_AT_ONE_PATH; i++) {
        int r = unmount_one(op, target, live.dev, err);
        if (r <= 0)
            return r;
        FAULT_POINT("unpublish:unmount:after");
    }
    return error_set(err, ERR_INTERNAL, "more than %d mounts lie at '%s'", MOUNTS_AT_ONE_PATH,
                     target);
}

int node_unpublish_volume(void *ctx, struct csi_call *call, const struct csi_unpublish_request *req,
                          struct error *err)
{
    AUTO_NODE_OP struct node_op op = NODE_OP_INIT;

    if (inline_id(req->volume_id))
        return inline_unpublish(req, err);
    if (request_path(req->target_path, "target_path", err) < 0 ||
        node_op_begin(&op, ctx, call, req->volume_id, err) < 0)
        return -1;
    FAULT_POINT("unpublish:unmount:before");
    if (unmount_all(&op, req->target_path, err) < 0)
        return -1;
    FAULT_POINT("unpublish:remove:before");
    if (target_remove(req->target_path, err) < 0)
        return -1;
    FAULT_POINT("unpublish:remove:after");
    if (pod_unpublished(&op, err) < 0)
        return -1;
    node_count(op.node, NODE_UNPUBLISHED);
    return 0;
}

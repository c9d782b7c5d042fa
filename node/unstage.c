/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unstage.c: NodeUnstage answers OK only when the mapping is gone. It never reads the disk and
 * needs no key.
 */
#include "common/base.h"
#include "node/unstage.h"

#include "common/fault.h"
#include "common/holders.h"
#include "common/log.h"
#include "node/mapper.h"
#include "node/mounts.h"
#include "node/op.h"
#include "node/request.h"
#include "node/unlock.h"

#include <errno.h>
#include <unistd.h>

static int refuse_published(struct node_op *op, const struct mount_table *table, dev_t dev,
                            const char *staging, struct error *err)
{
    for (size_t i = 0; i < table->n; i++) {
        const struct mount_entry *e = &table->items[i];
        if (mount_match(e, dev) == MOUNT_OURS && strcmp(e->point, staging) != 0)
            return error_set(err, ERR_ABORTED, "volume '%s' is still mounted at '%s'", op->id_text,
                             e->point);
    }
    return 0;
}

static int name_holder(struct node_op *op, dev_t dev, struct error *err)
{
    char who[320];

    if (err->code != ERR_ABORTED)
        return -1;
    node_count(op->node, NODE_BUSY);
    holders_describe(dev, who, sizeof(who));
    return error_set(err, ERR_ABORTED, "volume '%s' is busy: %s", op->id_text, who);
}

int unstage_unmount(struct node_op *op, dev_t dev, const char *staging, struct error *err)
{
    FAULT_POINT("unstage:unmount:before");
    if (mount_remove(staging, err) < 0)
        return name_holder(op, dev, err);
    FAULT_POINT("unstage:unmount:after");
    return 0;
}

static int unmount_staging(struct node_op *op, const struct live_mapping *live, const char *staging,
                           struct error *err)
{
    AUTO_MOUNT_TABLE struct mount_table table = { .items = NULL, .n = 0 };

    if (mount_table_load(&table, err) < 0 ||
        refuse_published(op, &table, live->dev, staging, err) < 0)
        return -1;
    if (mount_match(mount_table_at(&table, staging), live->dev) != MOUNT_OURS)
        return 0;
    return unstage_unmount(op, live->dev, staging, err);
}

/* What was written to a raw block volume and not flushed: its last close wrote it, and flushed
 * nothing. (A file system was flushed when it was unmounted.) A disk that is gone keeps nobody. */
static void flush(struct node_op *op, const struct live_mapping *live)
{
    AUTO_MAPPER_NODE struct mapper_node node = MAPPER_NODE_INIT;
    struct error local = ERROR_INIT;

    if (mapper_node_open(op->node->device_dir, op->dm_name, live->dm_uuid, live->dev, false, &node,
                         &local) == 0 &&
        fsync(node.fd) < 0)
        (void)error_errno(&local, errno, "flush the volume");
    if (local.code != ERR_OK)
        log_warn("not flushed before it is closed", KV("volume_id", op->id_text),
                 KV("error", local.msg));
}

int unstage_close(struct node_op *op, const struct live_mapping *live, struct error *err)
{
    const char *dm_uuid = live->dev != 0 ? live->dm_uuid : NULL;

    if (live->dev != 0)
        flush(op, live);
    /* first: no node outlives its mapping, whose number the kernel gives away again */
    mapper_node_unlink(op->node->device_dir, op->dm_name);
    FAULT_POINT("unstage:close:before");
    if (crypt_close(&op->node->crypt, op->dm_name, dm_uuid, op->volume.lock_fd,
                    unlock_crypt_deadline(), err) < 0)
        return name_holder(op, live->dev, err);
    FAULT_POINT("unstage:close:after");
    return 0;
}

/* Teardown works without the pool: an absent volume has no lock and no record, and a pool whose
 * disk is gone or that is not mounted must not keep a node busy for ever. What the lock would tell
 * (a child of a killed node still works on the device) the mapping's open count tells too. Only a
 * lock that somebody holds stops it, and what this process lacks for the moment. */
static bool lock_may_lack(enum error_code code)
{
    return code != ERR_ABORTED && code != ERR_EXHAUSTED && code != ERR_CANCELED &&
           code != ERR_DEADLINE;
}

int unstage_lock(struct node_op *op, struct error *err)
{
    struct error lock_err = ERROR_INIT;

    if (node_op_lock_if_there(op, &lock_err) == 0)
        return 0;
    if (!lock_may_lack(lock_err.code))
        return error_pass(err, &lock_err);
    log_warn("teardown without the pool", KV("volume_id", op->id_text), KV("error", lock_err.msg));
    return 0;
}

int node_unstage_volume(void *ctx, struct csi_call *call, const struct csi_unstage_request *req,
                        struct error *err)
{
    AUTO_NODE_OP struct node_op op = NODE_OP_INIT;
    struct live_mapping live = { .dev = 0 };
    struct error find_err = ERROR_INIT;

    if (request_path(req->staging_target_path, "staging_target_path", err) < 0 ||
        node_op_begin(&op, ctx, call, req->volume_id, err) < 0 || unstage_lock(&op, err) < 0)
        return -1;
    if (mapper_find(op.dm_name, &live, &find_err) == 0) {
        if (unmount_staging(&op, &live, req->staging_target_path, err) < 0)
            return -1;
    } else if (find_err.code != ERR_NOT_FOUND) {
        return error_pass(err, &find_err);
    }
    /* also reaps a mapping without a table, which sysfs doesn't show */
    if (unstage_close(&op, &live, err) < 0)
        return -1;
    node_count(op.node, NODE_UNSTAGED);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * expand.c: NodeExpand: image (only with --expand=node), loop device, mapping, file system, in that
 * order; never shrinks, never undone, each step repeats cheaply. There may be neither capability
 * nor staging path, so the record and the kernel say what the volume is. dm-crypt wants the key for
 * a longer table: of a volume that pods open only image and loop device grow here.
 */
#include "common/base.h"
#include "node/node.h"

#include "common/fault.h"
#include "node/filesystem.h"
#include "node/mapper.h"
#include "node/mounts.h"
#include "node/op.h"
#include "node/request.h"
#include "node/unlock.h"
#include "volume/geometry.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

struct expand {
    struct node_op *op;
    const struct csi_expand_request *req;
    const struct filesystem *fs;
    struct live_mapping live;
    uint64_t size; /* bytes the volume is to have */
    char *mounted; /* where the file system is mounted read-write; owned; NULL: nowhere */
};

static int decide_size(struct expand *x, struct error *err)
{
    const struct csi_expand_request *q = x->req;
    uint64_t want = q->required_bytes, have = x->op->record.size;

    if (want > GEOMETRY_SIZE_MAX)
        return error_set(err, ERR_OUT_OF_RANGE, "%llu bytes are more than a volume can have",
                         (unsigned long long)want);
    want = (want + GEOMETRY_ROUND - 1) / GEOMETRY_ROUND * GEOMETRY_ROUND;
    x->size = want > have ? want : have;
    if (q->limit_bytes != 0 && x->size > q->limit_bytes)
        return error_set(err, ERR_OUT_OF_RANGE,
                         "the volume would have %llu bytes, over the limit of %llu",
                         (unsigned long long)x->size, (unsigned long long)q->limit_bytes);
    if (x->size > have && !x->op->node->expand_on_node)
        return error_set(
            err, ERR_OUT_OF_RANGE,
            "volume '%s' has %llu bytes; ControllerExpandVolume must grow it to %llu first",
            x->op->id_text, (unsigned long long)have, (unsigned long long)x->size);
    return 0;
}

/* The kernel grows a file system through any mount of it that is a directory and may be written to.
 * A file that is bind-mounted alone (a subPath) won't do. One that failed can't grow: OK would say
 * that it has. */
static int look_at_mount(struct expand *x, const struct mount_table *table,
                         const struct mount_entry *e, struct error *err)
{
    struct stat st;

    if (mount_table_at(table, e->point) != e)
        return 0;
    if (e->failed)
        return error_set(err, ERR_PRECONDITION,
                         "the file system of volume '%s' has turned read-only after an error: it "
                         "grows when it is staged again and whole",
                         x->op->id_text);
    if (stat(e->point, &st) < 0)
        return errno == ENOENT
                   ? 0
                   : error_errno(err, errno, "look at the mount of volume '%s'", x->op->id_text);
    if (e->read_only || !S_ISDIR(st.st_mode) || x->mounted != NULL)
        return 0;
    x->mounted = strdup(e->point);
    return x->mounted != NULL ? 0 : error_memory(err);
}

static int find_mounts(struct expand *x, struct error *err)
{
    AUTO_MOUNT_TABLE struct mount_table table = { .items = NULL, .n = 0 };
    bool there = false;

    if (mount_table_load(&table, err) < 0)
        return -1;
    for (size_t i = 0; i < table.n; i++) {
        const struct mount_entry *e = &table.items[i];
        if (mount_match(e, x->live.dev) != MOUNT_OURS)
            continue;
        there = there || strcmp(e->point, x->req->volume_path) == 0;
        if (x->fs->mount_type != NULL && look_at_mount(x, &table, e, err) < 0)
            return -1;
    }
    /* raw block is staged without a mount, so its staging path can't be in the table */
    if (!there && x->fs->mount_type != NULL)
        return error_set(err, ERR_NOT_FOUND, "volume '%s' isn't mounted at '%.200s'",
                         x->op->id_text, x->req->volume_path);
    return 0;
}

static int find_volume(struct expand *x, struct error *err)
{

    if (mapper_find(x->op->dm_name, &x->live, err) < 0)
        return err->code == ERR_NOT_FOUND
                   ? error_set(err, ERR_PRECONDITION, "volume '%s' isn't staged on this node",
                               x->op->id_text)
                   : -1;
    if (mapper_check_uuid(&x->live, x->op->dm_name, x->op->record.uuid, err) < 0)
        return -1;
    return find_mounts(x, err);
}

static int grow_image(struct expand *x, struct error *err)
{
    struct node_op *op = x->op;
    struct record r = op->record;

    if (x->size == r.size)
        return 0;
    FAULT_POINT("expand:allocate:before");
    if (op->pool->ops->allocate(&op->volume, x->size + GEOMETRY_DATA_OFFSET, err) < 0)
        return -1;
    FAULT_POINT("expand:allocate:after");
    r.size = x->size;
    if (op->pool->ops->write_record(&op->volume, &r, err) < 0)
        return -1;
    op->record = r;
    FAULT_POINT("expand:record:after");
    return 0;
}

static int grow_device(struct expand *x, struct error *err)
{
    struct node_op *op = x->op;

    if (op->pool->ops->attach(&op->volume, &op->device, err) < 0)
        return -1;
    if (op->device.attached_now) /* a live mapping lies on the attachment that was there before */
        return error_set(err, ERR_ABORTED, "the device below volume '%s' isn't its image",
                         op->id_text);
    FAULT_POINT("expand:refresh:before");
    if (op->pool->ops->refresh(&op->volume, &op->device, err) < 0)
        return -1;
    FAULT_POINT("expand:refresh:after");
    return 0;
}

static int grow_mapping(struct expand *x, struct error *err)
{
    struct node_op *op = x->op;
    const struct crypt_volume target = unlock_target(op, x->live.read_only);
    AUTO_CLOSE int key = -1;

    if (x->live.size >= x->size)
        return 0;
    if (op->record.pod) /* UNAVAILABLE: kubelet repeats it, and publishes anew before a mount */
        return error_set(err, ERR_UNAVAILABLE,
                         "volume '%s' has its %llu bytes, but its key opens by the token of a pod, "
                         "which this call doesn't bring: it is in use at that size with the next "
                         "NodePublishVolume",
                         op->id_text, (unsigned long long)x->size);
    if (unlock_key_pipe(op, KEYD_USE_EXPAND, &key, err) < 0)
        return -1;
    FAULT_POINT("expand:resize:before");
    if (crypt_resize(&op->node->crypt, &target, key, unlock_crypt_deadline(), &op->mapping, err) <
        0)
        return -1;
    FAULT_POINT("expand:resize:after");
    return 0;
}

static int grow_file_system(struct expand *x, struct error *err)
{
    AUTO_MAPPER_NODE struct mapper_node node = MAPPER_NODE_INIT;
    bool grown = false;

    if (x->fs->grow == NULL || x->mounted == NULL)
        return 0;
    if (mapper_node_open(x->op->node->device_dir, x->op->dm_name, x->live.dm_uuid, x->live.dev,
                         true, &node, err) < 0)
        return -1;
    FAULT_POINT("expand:filesystem:before");
    const struct fs_device d = { .path = node.path,
                                 .fd = node.fd,
                                 .lock_fd = x->op->volume.lock_fd };
    if (filesystem_grow(x->fs, &d, x->live.dev, x->mounted, &grown, err) < 0)
        return -1;
    /* also what an earlier call wrote that was killed before it flushed */
    if (fsync(node.fd) < 0)
        return error_errno(err, errno, "flush the file system that has grown");
    FAULT_POINT("expand:filesystem:after");
    return 0;
}

static int run_steps(struct expand *x, struct error *err)
{
    if (find_volume(x, err) < 0 || decide_size(x, err) < 0 || grow_image(x, err) < 0 ||
        grow_device(x, err) < 0 || grow_mapping(x, err) < 0)
        return -1;
    return grow_file_system(x, err);
}

int node_expand_volume(void *ctx, struct csi_call *call, const struct csi_expand_request *req,
                       struct csi_node_expand_reply *ret, struct error *err)
{
    AUTO_NODE_OP struct node_op op = NODE_OP_INIT;
    struct expand x = { .op = &op, .req = req };

    if (node_op_begin(&op, ctx, call, req->volume_id, err) < 0 || node_op_lock(&op, err) < 0 ||
        node_op_usable(&op, err) < 0 || request_session(&op, call->arena, &req->secrets, err) < 0)
        return -1;
    x.fs = filesystem_find(op.record.fs);
    if (x.fs == NULL)
        return error_set(err, ERR_DATA_LOSS,
                         "the record names file system '%s', which this version doesn't know",
                         op.record.fs);
    int r = run_steps(&x, err);
    free(x.mounted);
    if (r < 0)
        return -1;
    node_count(op.node, NODE_EXPANDED);
    ret->capacity_bytes = x.size;
    return 0;
}

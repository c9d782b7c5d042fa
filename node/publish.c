/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish.c: NodePublish shows a staged volume at a target path. The kernel's mount table is the
 * only memory: which targets exist, whether they are read-only, which volume they show.
 */
#include "common/base.h"
#include "node/publish.h"

#include "common/cleanup.h"
#include "common/fault.h"
#include "node/in_use.h"
#include "node/inline.h"
#include "node/op.h"
#include "node/pod.h"
#include "node/request.h"
#include "node/target.h"

static int find_mapping(struct publish *p, struct error *err)
{
    if (mapper_find(p->op->dm_name, &p->live, err) == 0)
        return mapper_check_uuid(&p->live, p->op->dm_name, p->op->record.uuid, err);
    if (err->code == ERR_NOT_FOUND)
        return error_set(err, ERR_PRECONDITION, "volume '%s' isn't staged on this node",
                         p->op->id_text);
    return -1;
}

static int check_staging_block(const struct publish *p, struct error *err)
{
    if (p->live.read_only && !p->read_only)
        return error_set(err, ERR_PRECONDITION, "volume '%s' is staged read-only", p->op->id_text);
    if (!p->live.read_only && p->read_only) /* a read-only mount of a device node stops nobody */
        return error_set(err, ERR_PRECONDITION,
                         "raw block volume '%s' is staged read-write, so a read-only target could "
                         "be written to: stage it with a reader-only access mode",
                         p->op->id_text);
    return 0;
}

static int check_staging(const struct publish *p, struct error *err)
{
    const struct mount_entry *entry = mount_table_at(&p->table, p->req->staging_target_path);

    if (p->use.block)
        return check_staging_block(p, err);
    if (mount_match(entry, p->live.dev) != MOUNT_OURS)
        return error_set(err, ERR_PRECONDITION, "volume '%s' isn't staged at '%s'", p->op->id_text,
                         p->req->staging_target_path);
    if (mount_asked_read_only(entry) && !p->read_only)
        return error_set(err, ERR_PRECONDITION, "volume '%s' is staged read-only", p->op->id_text);
    return 0;
}

int publish_look_at_target(const struct publish *p, struct error *err)
{
    const struct mount_entry *entry = mount_table_at(&p->table, p->req->target_path);

    switch (mount_match(entry, p->live.dev)) {
    case MOUNT_NONE:
        return 0;
    case MOUNT_FOREIGN:
        return error_set(err, ERR_EXISTS, "something else is mounted at '%s'", p->req->target_path);
    default:
        break;
    }
    /* of one that failed too: a pod keeps what it has, and after a final error kubelet may forget
     * the mount */
    const bool read_only = mount_asked_read_only(entry);
    if (read_only != p->read_only)
        return error_set(err, ERR_EXISTS, "volume '%s' is already published %s at '%s'",
                         p->op->id_text, read_only ? "read-only" : "read-write",
                         p->req->target_path);
    return 1;
}

int publish_check_single(const struct publish *p, struct error *err)
{
    for (size_t i = 0; i < p->table.n && p->use.single_target; i++) {
        const struct mount_entry *e = &p->table.items[i];
        if (mount_match(e, p->live.dev) != MOUNT_OURS ||
            strcmp(e->point, p->req->staging_target_path) == 0 ||
            strcmp(e->point, p->req->target_path) == 0)
            continue;
        return error_set(err, ERR_PRECONDITION,
                         "volume '%s' allows a single writer and is already published at '%s'",
                         p->op->id_text, e->point);
    }
    return 0;
}

static int bind_block(const struct publish *p, struct error *err)
{
    AUTO_MAPPER_NODE struct mapper_node node = MAPPER_NODE_INIT;

    if (mapper_node_open(p->op->node->device_dir, p->op->dm_name, p->live.dm_uuid, p->live.dev,
                         false, &node, err) < 0)
        return -1;
    return mount_bind(node.path, p->req->target_path, p->read_only, err);
}

/* Nobody new gets it. What this call has staged itself isn't in the table. */
static int refuse_failed(const struct publish *p, struct error *err)
{
    const struct mount_entry *entry = mount_table_at(&p->table, p->req->staging_target_path);

    if (p->use.block || entry == NULL || !entry->failed || p->read_only)
        return 0;
    return error_set(err, ERR_PRECONDITION,
                     "the file system of volume '%s' has turned read-only after an error: it is "
                     "whole again when it was unstaged and staged",
                     p->op->id_text);
}

int publish_bind(const struct publish *p, struct error *err)
{
    const char *target = p->req->target_path;
    struct error ignored = ERROR_INIT;
    bool made = false;

    if (refuse_failed(p, err) < 0)
        return -1;
    FAULT_POINT("publish:target:before");
    if (target_make(target, p->use.block, &made, err) < 0)
        return -1;
    FAULT_POINT("publish:target:after");
    int r = p->use.block ? bind_block(p, err)
                         : mount_bind(p->req->staging_target_path, target, p->read_only, err);
    FAULT_POINT("publish:bind:after");
    if (r < 0 && made) /* what was there before stays */
        (void)!target_remove(target, &ignored);
    return r;
}

static int publish_run(struct publish *p, struct csi_call *call, struct error *err)
{
    struct node_op *op = p->op;

    if (node_op_peek(op, err) < 0 || request_same_identity(op, &p->req->volume_context, err) < 0 ||
        request_same_fs(op, &p->req->capability, &p->use, err) < 0 ||
        (op->record.pod && request_token(call->arena, p->req, &op->token, err) < 0))
        return -1;
    p->read_only = p->req->readonly || p->use.read_only;
    if (op->record.pod)
        return pod_publish(p, err);
    if (find_mapping(p, err) < 0 || mount_table_load(&p->table, err) < 0 ||
        check_staging(p, err) < 0)
        return -1;
    int there = publish_look_at_target(p, err);
    if (there != 0)
        return there < 0 ? -1 : 0;
    if (publish_check_single(p, err) < 0)
        return -1;
    return publish_bind(p, err);
}

int node_publish_volume(void *ctx, struct csi_call *call, const struct csi_publish_request *req,
                        struct error *err)
{
    AUTO_NODE_OP struct node_op op = NODE_OP_INIT;
    struct publish p = { .op = &op, .req = req };

    if (inline_is(req))
        return inline_publish(ctx, call, req, err);
    if (request_usage(&req->capability, &p.use, err) < 0 ||
        request_path(req->target_path, "target_path", err) < 0)
        return -1;
    if (req->staging_target_path[0] == '\0')
        return error_set(err, ERR_PRECONDITION, "staging_target_path is not set");
    if (strcmp(req->staging_target_path, req->target_path) == 0)
        return error_set(err, ERR_INVALID, "target_path and staging_target_path are the same");
    if (request_path(req->staging_target_path, "staging_target_path", err) < 0 ||
        node_op_begin(&op, ctx, call, req->volume_id, err) < 0)
        return -1;
    int r = publish_run(&p, call, err);
    mount_table_release(&p.table);
    if (r < 0)
        return in_use_refuse(&op, req->target_path, err);
    node_count(op.node, NODE_PUBLISHED);
    return 0;
}

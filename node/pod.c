/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/pod.h"

#include "common/cleanup.h"
#include "common/fault.h"
#include "common/log.h"
#include "node/stage.h"
#include "node/unstage.h"

/* ---- closing ---- */

static bool is_staging(const struct mount_entry *e, dev_t dev)
{
    return e->no_symlinks && mount_match(e, dev) == MOUNT_OURS;
}

/* Unmounts the staging mounts unless a pod has the volume: *ret_used. */
static int unmount_if_unused(struct node_op *op, dev_t dev, bool *ret_used, struct error *err)
{
    AUTO_MOUNT_TABLE struct mount_table table = { .items = NULL, .n = 0 };

    if (mount_table_load(&table, err) < 0)
        return -1;
    for (size_t i = 0; i < table.n; i++) {
        const struct mount_entry *e = &table.items[i];
        if (mount_match(e, dev) != MOUNT_OURS || is_staging(e, dev))
            continue;
        *ret_used = true;
        return 0;
    }
    for (size_t i = table.n; i-- > 0;)
        if (is_staging(&table.items[i], dev) &&
            unstage_unmount(op, dev, table.items[i].point, err) < 0)
            return -1;
    return 0;
}

/* The volume's flock is held, where there is one. */
static int close_if_unused(struct node_op *op, struct error *err)
{
    struct live_mapping live = { .dev = 0 };
    struct error find_err = ERROR_INIT;
    bool used = false;

    if (mapper_find(op->dm_name, &live, &find_err) < 0 && find_err.code != ERR_NOT_FOUND)
        return error_pass(err, &find_err);
    if (live.dev != 0 && unmount_if_unused(op, live.dev, &used, err) < 0)
        return -1;
    return used ? 0 : unstage_close(op, &live, err);
}

/* ---- publish ---- */

static int need_token(const struct node_op *op, struct error *err)
{
    if (op->token != NULL)
        return 0;
    return error_set(err, ERR_PRECONDITION,
                     "volume '%s' opens by its pod's own token (tenantIdentity: pod), and the "
                     "request has none for audience 'vault': the CSIDriver object needs "
                     "tokenRequests with that audience",
                     op->id_text);
}

static int run_steps(struct publish *p, struct error *err)
{
    struct stage s = {
        .op = p->op, .path = p->req->staging_target_path, .use = p->use, .node = MAPPER_NODE_INIT
    };

    if (stage_look(&s, err) < 0)
        return -1;
    return stage_finish(&s, err);
}

/* Kubelet publishes anew after its own restart, when it likes, and before it tells of a new size.
 * What the pod has stays as it is, whatever Vault thinks of it now; a larger volume, which
 * NodeExpand couldn't open, takes the chance. It isn't worth a pod. */
static int publish_again(struct publish *p, struct error *err)
{
    struct error local = ERROR_INIT;

    if (p->live.size >= p->op->record.size || p->op->token == NULL)
        return 0;
    if (run_steps(p, &local) < 0)
        log_warn("a published volume could not grow", KV("volume_id", p->op->id_text),
                 KV("code", error_code_name(local.code)), KV("error", local.msg));
    return 0;
}

/* Kubelet gives up after a final error without another call, so nothing may be left; when something
 * is, the answer must be one that it repeats. */
static int roll_back(struct publish *p, struct error *err)
{
    struct error local = ERROR_INIT;

    FAULT_POINT("publish:pod:roll-back");
    if (close_if_unused(p->op, &local) == 0)
        return -1;
    log_warn("roll-back failed", KV("volume_id", p->op->id_text), KV("error", local.msg));
    return error_not_final(err);
}

static int look(struct publish *p, struct error *err)
{
    struct error find_err = ERROR_INIT;

    if (mapper_find(p->op->dm_name, &p->live, &find_err) < 0) {
        if (find_err.code != ERR_NOT_FOUND)
            return error_pass(err, &find_err);
    } else if (mapper_check_uuid(&p->live, p->op->dm_name, p->op->record.uuid, err) < 0) {
        return -1;
    }
    return mount_table_load(&p->table, err);
}

static int open_and_show(struct publish *p, struct error *err)
{
    FAULT_POINT("publish:pod:before");
    if (need_token(p->op, err) < 0 || run_steps(p, err) < 0)
        return -1;
    FAULT_POINT("publish:pod:after");
    return publish_bind(p, err);
}

int pod_publish(struct publish *p, struct error *err)
{
    struct node_op *op = p->op;

    /* the record again, under the lock */
    if (node_op_lock(op, err) < 0 || request_claim(op, &p->req->volume_context, err) < 0 ||
        look(p, err) < 0)
        return -1;
    int there = publish_look_at_target(p, err);
    if (there != 0)
        return there < 0 ? -1 : publish_again(p, err);
    if (node_op_usable(op, err) < 0 || publish_check_single(p, err) < 0)
        return -1;
    return open_and_show(p, err) < 0 ? roll_back(p, err) : 0;
}

/* ---- unpublish ---- */

/* 1, 0. By its record; where that can't be read, by its staging mount. Neither: NodeUnstage will
 * see. -1: nobody can say. */
static int is_pods(struct node_op *op, struct error *err)
{
    AUTO_MOUNT_TABLE struct mount_table table = { .items = NULL, .n = 0 };
    struct error ignored = ERROR_INIT, find_err = ERROR_INIT;
    struct live_mapping live;

    if (node_op_peek(op, &ignored) == 0)
        return op->record.pod ? 1 : 0;
    if (mapper_find(op->dm_name, &live, &find_err) < 0)
        return find_err.code == ERR_NOT_FOUND ? 0 : error_pass(err, &find_err);
    if (mount_table_load(&table, err) < 0)
        return -1;
    for (size_t i = 0; i < table.n; i++)
        if (is_staging(&table.items[i], live.dev))
            return 1;
    return 0;
}

int pod_unpublished(struct node_op *op, struct error *err)
{
    int pods = is_pods(op, err);

    if (pods <= 0)
        return pods;
    FAULT_POINT("unpublish:pod:before");
    if (unstage_lock(op, err) < 0 || close_if_unused(op, err) < 0)
        return -1;
    FAULT_POINT("unpublish:pod:after");
    return 0;
}

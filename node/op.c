/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/op.h"

int node_op_begin(struct node_op *op, struct node *node, struct csi_call *call,
                  const char *volume_id, struct error *err)
{
    if (volume_id_parse(volume_id, &op->id, err) < 0)
        return -1;
    op->node = node;
    op->deadline = call->deadline;
    op->phases = &call->phases;
    volume_id_format(&op->id, op->id_text);
    volume_id_dm_name(&op->id, op->dm_name);
    return keylock_try(node->locks, op->id_text, &op->hold, err);
}

static int find_pool(struct node_op *op, struct error *err)
{
    if (pool_set_for_id(op->node->pools, &op->id, &op->pool, err) < 0)
        return -1;
    (void)pool_watch(op->pool);
    return 0;
}

int node_op_lock(struct node_op *op, struct error *err)
{
    if (find_pool(op, err) < 0 || volume_open(op->pool, &op->id, false, &op->volume, err) < 0)
        return -1;
    return op->pool->ops->read_record(&op->volume, &op->record, err);
}

int node_op_lock_if_there(struct node_op *op, struct error *err)
{
    struct error local = ERROR_INIT;

    if (find_pool(op, &local) == 0 &&
        volume_open(op->pool, &op->id, false, &op->volume, &local) == 0)
        return 0;
    if (local.code == ERR_NOT_FOUND)
        return 0;
    return error_pass(err, &local);
}

int node_op_peek(struct node_op *op, struct error *err)
{
    if (find_pool(op, err) < 0)
        return -1;
    return op->pool->ops->peek_record(op->pool, &op->id, &op->record, err);
}

int node_op_usable(const struct node_op *op, struct error *err)
{
    const struct record *r = &op->record;

    if (r->state == RECORD_ERASED)
        return error_set(err, ERR_NOT_FOUND, "volume '%s' is being deleted", op->id_text);
    if (r->state != RECORD_NEW && r->state != RECORD_FORMATTING && r->state != RECORD_READY)
        return error_set(err, ERR_PRECONDITION, "volume '%s' is in state '%s' and can't be used",
                         op->id_text, record_state_name(r->state));
    /* In a full pool nothing is ever given back, whatever an earlier configuration allowed. */
    if (r->discard && !pool_is_sparse(op->pool->config))
        return error_set(err, ERR_PRECONDITION,
                         "volume '%s' was created with discard, which pool '%s' doesn't allow any "
                         "more: make the pool sparse again",
                         op->id_text, op->id.pool);
    if (!pool_allows_kms(op->pool->config, r->kms))
        return error_set(err, ERR_PRECONDITION,
                         "volume '%s' names kms '%s', which pool '%s' doesn't allow", op->id_text,
                         r->kms, op->id.pool);
    return 0;
}

void node_op_end(struct node_op *op)
{
    block_device_close(&op->device);
    volume_close(&op->volume);
    keylock_hold_free(TAKE_PTR(op->hold));
}

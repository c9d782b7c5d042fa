/* SPDX-License-Identifier: Apache-2.0 */
/* Pools that can't be looked into: what is left over of them isn't known, which is not "nothing".
 */
#include "common/base.h"
#include "node/reconcile.h"

int reconcile_each_pool(struct reconcile *r, reconcile_look look, void *ctx, struct error *err)
{
    const struct pool_set *pools = reconcile_node(r)->pools;
    struct error absent = ERROR_INIT;

    for (size_t i = 0; i < pools->n; i++) {
        if (pool_ready(pools->pools[i], &absent) < 0)
            continue; /* a row of kind "pool" says so */
        if (look(pools->pools[i], ctx, err) < 0)
            return -1;
    }
    return 0;
}

int unready_pool_find(struct reconcile *r, struct error *err)
{
    const struct pool_set *pools = reconcile_node(r)->pools;
    struct error absent = ERROR_INIT;

    for (size_t i = 0; i < pools->n; i++) {
        if (pool_ready(pools->pools[i], &absent) == 0)
            continue;
        if (reconcile_add(r, pools->pools[i]->config->name, 0) == NULL)
            return error_memory(err);
    }
    return 0;
}

bool unready_pool_judge(struct reconcile *r, struct node_op *op UNUSED, struct candidate *c,
                        struct finding *ret)
{
    const struct pool_set *pools = reconcile_node(r)->pools;
    struct error why = ERROR_INIT;

    for (size_t i = 0; i < pools->n; i++) {
        struct pool *pool = pools->pools[i];

        if (strcmp(pool->config->name, c->what) == 0 && pool_ready(pool, &why) < 0)
            return found(ret, "none", "what is left over of its volumes can't be seen: %s",
                         why.msg);
    }
    return false; /* it came back meanwhile */
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/in_use.h"

#include "node/mapper.h"
#include "node/mounts.h"

/* No call that was answered with OK can have been like this one, but for what a caller looks at
 * before it comes here: what the volume, its pool or a Secret is by now. */
static bool is_of_request(enum error_code code)
{
    return code == ERR_INVALID || code == ERR_EXISTS || code == ERR_PRECONDITION;
}

static bool is_mounted_at(const char *target, dev_t dev)
{
    AUTO_MOUNT_TABLE struct mount_table table = { .items = NULL, .n = 0 };
    struct error ignored = ERROR_INIT;

    return mount_table_load(&table, &ignored) < 0 ||
           mount_match(mount_table_at(&table, target), dev) == MOUNT_OURS;
}

bool in_use(const struct node_op *op, const char *target)
{
    struct live_mapping live;
    struct error find_err = ERROR_INIT;

    if (mapper_find(op->dm_name, &live, &find_err) < 0)
        return find_err.code != ERR_NOT_FOUND;
    return target == NULL || is_mounted_at(target, live.dev);
}

int in_use_refuse(const struct node_op *op, const char *target, struct error *err)
{
    if (err == NULL || is_of_request(err->code) || !in_use(op, target))
        return -1;
    return error_not_final(err);
}

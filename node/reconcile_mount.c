/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Published raw block volumes whose mapping is gone: a bind mount of a device node that shows
 * nothing any more, or (worse) whatever device has got that number since. A mounted file system
 * keeps its mapping, so there a dead mapping is what is found.
 */
#include "common/base.h"
#include "node/reconcile.h"

#include "common/blockdev.h"
#include "node/mounts.h"

/* It is a node whose number isn't its mapping's. Where nobody can say, it is no such node: nothing
 * is unmounted for that. */
static bool is_stale(const struct mount_entry *e, char ret_name[DM_NAME_LEN + 1], dev_t *ret_dev)
{
    char live[256], hash[33], tag[9];
    struct error local = ERROR_INIT;

    if (!mount_node_name(e, ret_name, DM_NAME_LEN + 1, ret_dev) ||
        volume_dm_name_parse(ret_name, hash, tag) < 0)
        return false;
    if (blockdev_line(*ret_dev, "dm/name", live, sizeof(live), &local) < 0)
        return blockdev_is_gone(&local);
    return strcmp(live, ret_name) != 0;
}

int stale_mount_find(struct reconcile *r, struct error *err)
{
    AUTO_MOUNT_TABLE struct mount_table t = { .items = NULL, .n = 0 };
    char name[DM_NAME_LEN + 1];
    dev_t dev;

    if (mount_table_load(&t, err) < 0)
        return -1;
    for (size_t i = 0; i < t.n; i++) {
        if (!is_stale(&t.items[i], name, &dev))
            continue;
        struct candidate *c = reconcile_add(r, t.items[i].point, dev);
        if (c == NULL)
            return error_memory(err);
        c->has_id = reconcile_id(reconcile_node(r), name, &c->id);
    }
    return 0;
}

bool stale_mount_judge(struct reconcile *r UNUSED, struct node_op *op, struct candidate *c,
                       struct finding *ret)
{
    AUTO_MOUNT_TABLE struct mount_table t = { .items = NULL, .n = 0 };
    struct error local = ERROR_INIT;
    char name[DM_NAME_LEN + 1], number[DEV_TEXT_SIZE];
    dev_t dev;

    if (mount_table_load(&t, &local) < 0)
        return found(ret, "none", "%s", local.msg);
    const struct mount_entry *e = mount_table_at(&t, c->what);
    if (e == NULL || !is_stale(e, name, &dev))
        return false;
    if (c->has_id && strcmp(name, op->dm_name) != 0)
        return false; /* another volume's came there meanwhile */
    blockdev_text(dev, number);
    return found(ret, "unmount", "it shows device node '%s', whose number %s is %s", name, number,
                 blockdev_present(dev) ? "another device's now" : "no device's any more");
}

int stale_mount_act(struct reconcile *r UNUSED, struct node_op *op UNUSED, struct candidate *c,
                    struct error *err)
{
    return mount_remove(c->what, err);
}

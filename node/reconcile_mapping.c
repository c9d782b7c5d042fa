/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mappings of ours that serve nobody. A mapping whose record or volume is gone is never closed
 * here: it may be the last way to somebody's data.
 */
#include "common/base.h"
#include "node/reconcile.h"

#include "common/holders.h"
#include "node/unlock.h"

/* Nothing for judge to look at: of a `ready` volume, right, and open or raw block (which is opened
 * by nobody until it is published). Keeps the locks of volumes in use untouched. */
static bool serves(const struct node *node, const struct mapping *m, const struct volume_id *id)
{
    struct pool *pool = pool_set_find(node->pools, id->pool);
    char wanted[DM_UUID_MAX + 1];
    struct record record;

    if (m->state != MAPPING_OK || pool == NULL ||
        pool->ops->peek_record(pool, id, &record, NULL) < 0)
        return false;
    volume_dm_uuid(record.uuid, m->name, wanted);
    return record.state == RECORD_READY && strcmp(wanted, m->dm_uuid) == 0 &&
           (m->open_count > 0 || strcmp(record.fs, "none") == 0);
}

int stale_mapping_find(struct reconcile *r, struct error *err)
{
    const struct node *node = reconcile_node(r);
    AUTO_MAPPING_LIST struct mapping_list list = { .items = NULL, .n = 0 };

    if (crypt_list(&node->crypt, unlock_crypt_deadline(), &list, err) < 0)
        return -1;
    for (size_t i = 0; i < list.n; i++) {
        const struct mapping *m = &list.items[i];
        struct volume_id id;
        bool ours = reconcile_id(node, m->name, &id);

        if (ours && serves(node, m, &id))
            continue;
        struct candidate *c = reconcile_add(r, m->name, m->dev);
        if (c == NULL)
            return error_memory(err);
        c->has_id = ours;
        if (ours)
            c->id = id;
    }
    return 0;
}

static bool dead(const struct node_op *op, const struct mapping *m, struct finding *ret)
{
    struct error shown = ERROR_INIT;
    char who[320];

    if (m->open_count == 0 && unlock_refuse_shown(op, m->dev, &shown) < 0)
        return found(ret, "none", "it is dead (%s), but %s", m->why, shown.msg);
    if (m->open_count == 0)
        return found(ret, "reap", "it is dead: %s", m->why);
    holders_describe(m->dev, who, sizeof(who));
    return found(ret, "none", "it is dead (%s) and still open: %s; end that, then run this again",
                 m->why, who);
}

static bool not_ready(const struct mapping *m, const struct record *record, struct finding *ret)
{
    const char *state = record_state_name(record->state);
    char who[320];

    if (m->open_count == 0)
        return found(ret, "reap", "the record says '%s': nothing was ever mounted from it", state);
    holders_describe(m->dev, who, sizeof(who));
    return found(ret, "none", "the record says '%s', but it is open: %s", state, who);
}

static bool by_record(struct node_op *op, const struct mapping *m, struct finding *ret)
{
    struct error local = ERROR_INIT;
    char wanted[DM_UUID_MAX + 1];
    struct record record;

    if (op->volume.lock_fd < 0)
        return found(ret, "none",
                     "its volume is gone from the pool: it may be the only way to what is left of "
                     "the data; when nobody needs that: dmsetup remove %s",
                     m->name);
    if (op->pool->ops->read_record(&op->volume, &record, &local) < 0)
        return found(ret, "none",
                     "the record can't be read (%.300s): cofferctl record restore %s --from BACKUP",
                     local.msg, op->id_text);
    volume_dm_uuid(record.uuid, m->name, wanted);
    if (strcmp(wanted, m->dm_uuid) != 0)
        return found(ret, "none",
                     "its dm uuid '%s' is of another creation of this volume; when nobody needs "
                     "it: dmsetup remove %s",
                     m->dm_uuid, m->name);
    if (record.state != RECORD_READY)
        return not_ready(m, &record, ret);
    /* a staged raw block volume is opened by nobody until it is published */
    if (m->open_count > 0 || strcmp(record.fs, "none") == 0)
        return false;
    return found(ret, "reap", "nothing is mounted from it and nobody has it open");
}

bool stale_mapping_judge(struct reconcile *r, struct node_op *op, struct candidate *c,
                         struct finding *ret)
{
    const struct node *node = reconcile_node(r);
    AUTO_MAPPING_LIST struct mapping_list list = { .items = NULL, .n = 0 };
    struct error local = ERROR_INIT;

    if (crypt_list(&node->crypt, unlock_crypt_deadline(), &list, &local) < 0)
        return found(ret, "none", "it can't be looked at: %s", local.msg);
    const struct mapping *m = mapping_find(&list, c->what);
    if (m == NULL)
        return false;
    c->mapping = *m;
    if (!c->has_id)
        return found(ret, "none", "no pool that is there now has the tag in its name%s%s",
                     m->why[0] != '\0' ? "; " : "", m->why);
    if (m->state == MAPPING_ZOMBIE)
        return dead(op, m, ret);
    if (m->state == MAPPING_WRONG)
        return found(ret, "none",
                     "it is not what Coffer makes (%s): look at dmsetup table %s; when nobody "
                     "needs it: dmsetup remove %s",
                     m->why, m->name, m->name);
    return by_record(op, m, ret);
}

int stale_mapping_act(struct reconcile *r, struct node_op *op, struct candidate *c,
                      struct error *err)
{
    const char *dm_uuid = c->mapping.dm_uuid[0] != '\0' ? c->mapping.dm_uuid : NULL;

    return crypt_close(&reconcile_node(r)->crypt, c->what, dm_uuid, op->volume.lock_fd,
                       unlock_crypt_deadline(), err);
}

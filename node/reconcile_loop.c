/* SPDX-License-Identifier: Apache-2.0 */
/* Devices that show a volume's bytes while no mapping is made from them. Coffer's own go with their
 * last user; what stays was made by hand, or by an older version. */
#include "common/base.h"
#include "node/reconcile.h"

#include "common/blockdev.h"
#include "common/holders.h"

struct search {
    struct reconcile *r;
    bool failed;
};

static bool note(void *ctx, const struct volume_id *id, const struct attachment *a)
{
    struct search *s = ctx;

    if (blockdev_has_holders(a->dev))
        return true;
    struct candidate *c = reconcile_add(s->r, a->path, a->dev);
    if (c != NULL) {
        c->has_id = true;
        c->id = *id;
    }
    s->failed = c == NULL;
    return !s->failed;
}

static int look(struct pool *pool, void *ctx, struct error *err)
{
    struct search *s = ctx;

    if (pool->ops->each_attachment(pool, note, s, err) < 0)
        return -1;
    return s->failed ? error_memory(err) : 0;
}

int stale_loop_find(struct reconcile *r, struct error *err)
{
    struct search s = { .r = r };

    return reconcile_each_pool(r, look, &s, err);
}

static const struct attachment *find_attachment(const struct volume_where *where, dev_t dev)
{
    for (size_t i = 0; i < where->n_attachments && i < WHERE_ATTACHMENTS_MAX; i++) {
        if (where->attachments[i].dev == dev)
            return &where->attachments[i];
    }
    return NULL;
}

bool stale_loop_judge(struct reconcile *r, struct node_op *op, struct candidate *c,
                      struct finding *ret)
{
    struct volume_where where;
    struct error local = ERROR_INIT;
    struct holder h;
    char who[400];

    if (op->volume.lock_fd < 0)
        return false; /* the volume went meanwhile */
    if (op->pool->ops->locate(op->pool, &op->id, &where, &local) < 0)
        return found(ret, "none", "%s", local.msg);
    const struct attachment *a = find_attachment(&where, c->dev);
    if (a == NULL || blockdev_has_holders(c->dev))
        return false;
    if (holders_first(c->dev, &h)) {
        holder_text(&h, who, sizeof(who));
        return found(ret, "none", "no mapping is made from it, but %s", who);
    }
    if (!a->ours)
        return found(ret, "none",
                     "it shows the image read-only or in part, so Coffer didn't make it; when "
                     "nobody needs it: losetup -d %s",
                     a->path);
    return found(ret, "detach", "no mapping is made from it and nobody has it open");
}

int stale_loop_act(struct reconcile *r UNUSED, struct node_op *op, struct candidate *c,
                   struct error *err)
{
    return op->pool->ops->detach(&op->volume, c->dev, err);
}

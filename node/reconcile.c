/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reconcile.c: NodeAdmin's Reconcile: what killed calls and other programs left over on this node.
 * Nothing is remembered, so it can be killed on any line and run again. A volume on which a call of
 * this process is under way is passed over: that call decides.
 */
#include "common/base.h"
#include "node/reconcile.h"

#include "common/deadline.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/parse.h"

#include <stdarg.h>

#define LEFT_OVERS_MAX 2000u

struct reconcile {
    struct node *node;
    struct csi_call *call;
    bool dry_run;
    const struct left_over_kind *finding; /* whose find is running */
    struct candidate *first, **last;
    struct csi_left_over *items;
    size_t n;
    bool truncated;
};

static bool lock_judge(struct reconcile *r UNUSED, struct node_op *op UNUSED,
                       struct candidate *c UNUSED, struct finding *ret UNUSED)
{
    return false; /* the lock could be taken: nobody holds it any more */
}

/* The pools first; then in this order: what a later one looks at may go with an earlier one. */
static const struct left_over_kind kinds[] = {
    { "pool", unready_pool_find, unready_pool_judge, NULL },
    { "mount", stale_mount_find, stale_mount_judge, stale_mount_act },
    { "mapping", stale_mapping_find, stale_mapping_judge, stale_mapping_act },
    { "loop", stale_loop_find, stale_loop_judge, stale_loop_act },
    { "node", stale_node_find, stale_node_judge, stale_node_act },
    { "lock", held_lock_find, lock_judge, NULL },
};

struct node *reconcile_node(const struct reconcile *r)
{
    return r->node;
}

/* ---- candidates ---- */

struct candidate *reconcile_add(struct reconcile *r, const char *what, dev_t dev)
{
    struct candidate *c = arena_alloc(r->call->arena, sizeof(*c));

    if (c == NULL)
        return NULL;
    c->kind = r->finding;
    c->what = arena_strdup(r->call->arena, what);
    c->dev = dev;
    c->locked_why = "";
    if (c->what == NULL)
        return NULL;
    *r->last = c;
    r->last = &c->next;
    return c;
}

bool reconcile_id(const struct node *node, const char *dm_name, struct volume_id *ret)
{
    struct volume_id id = { .pool = "" };

    if (volume_dm_name_parse(dm_name, id.hash, id.pool_tag) < 0)
        return false;
    for (size_t i = 0; i < node->pools->n; i++) {
        struct pool *pool = node->pools->pools[i];
        struct error local = ERROR_INIT;

        if (pool_ready(pool, &local) < 0 || strcmp(pool->tag, id.pool_tag) != 0)
            continue;
        memcpy(id.pool, pool->config->name, sizeof(id.pool));
        *ret = id;
        return true;
    }
    return false;
}

bool found(struct finding *ret, const char *action, const char *fmt, ...)
{
    va_list args;

    ret->action = action;
    va_start(args, fmt);
    (void)vsnprintf(ret->why, sizeof(ret->why), fmt, args);
    va_end(args);
    utf8_make_plain(ret->why); /* it may be cut within a character, and quotes what others wrote */
    return true;
}

/* ---- the answer ---- */

static int report(struct reconcile *r, const struct candidate *c, const struct finding *f,
                  const char *result, const char *problem, struct error *err)
{
    struct arena *a = r->call->arena;
    char id[VOLUME_ID_MAX + 1] = "";
    char *what = arena_strdup(a, c->what);

    if (r->n == LEFT_OVERS_MAX) {
        r->truncated = true;
        return 0;
    }
    if (c->has_id)
        volume_id_format(&c->id, id);
    struct csi_left_over *l = &r->items[r->n];
    *l = (struct csi_left_over){ .kind = c->kind->name,
                                 .what = what,
                                 .volume_id = arena_strdup(a, id),
                                 .why = arena_strdup(a, f->why),
                                 .action = f->action,
                                 .result = result,
                                 .problem = arena_strdup(a, problem) };
    if (what == NULL || l->volume_id == NULL || l->why == NULL || l->problem == NULL)
        return error_memory(err);
    utf8_make_plain(what); /* a path: gRPC's strings are UTF-8 */
    r->n++;
    return 0;
}

static int leave_alone(struct reconcile *r, const struct candidate *c, const char *why,
                       struct error *err)
{
    struct finding f;

    (void)found(&f, "none", "%s", why);
    return report(r, c, &f, "", "", err);
}

/* ---- one candidate ---- */

static int act(struct reconcile *r, struct node_op *op, struct candidate *c,
               const struct finding *f, struct error *err)
{
    struct error own = ERROR_INIT;

    FAULT_POINT("reconcile:act:before");
    int result = c->kind->act(r, op, c, &own);
    FAULT_POINT("reconcile:act:after");
    log_audit(KV("action", "reconcile"), KV("kind", c->kind->name), KV("what", c->what),
              KV("volume_id", op->id_text), KV("does", f->action), KV("why", f->why),
              KV("result", error_code_name(own.code)));
    if (result == 0)
        node_count(r->node, NODE_RECONCILED);
    return report(r, c, f, result == 0 ? "done" : "failed", own.msg, err);
}

static int judge(struct reconcile *r, struct node_op *op, struct candidate *c, struct error *err)
{
    struct finding f = { .action = "none" };

    if (!c->kind->judge(r, op, c, &f))
        return 0;
    if (!c->has_id) /* no lock, no proof that it is ours */
        f.action = "none";
    if (r->dry_run || strcmp(f.action, "none") == 0)
        return report(r, c, &f, "", "", err);
    return act(r, op, c, &f, err);
}

static int look_at(struct reconcile *r, struct candidate *c, struct error *err)
{
    AUTO_NODE_OP struct node_op op = NODE_OP_INIT;
    struct error local = ERROR_INIT;
    char id[VOLUME_ID_MAX + 1];

    op.node = r->node;
    if (!c->has_id)
        return judge(r, &op, c, err);
    volume_id_format(&c->id, id);
    if (node_op_begin(&op, r->node, r->call, id, &local) < 0)
        return local.code == ERR_ABORTED ? 0 : leave_alone(r, c, local.msg, err);
    if (node_op_lock_if_there(&op, &local) < 0)
        return leave_alone(r, c, c->locked_why[0] != '\0' ? c->locked_why : local.msg, err);
    return judge(r, &op, c, err);
}

/* ---- the call ---- */

/* One kind that can't be looked for doesn't hide the others. */
static int find_and_look(struct reconcile *r, const struct left_over_kind *kind, struct error *err)
{
    const struct candidate whole = { .kind = kind, .what = "all of them" };
    struct error local = ERROR_INIT;

    r->finding = kind;
    r->first = NULL;
    r->last = &r->first;
    if (kind->find(r, &local) < 0 && leave_alone(r, &whole, local.msg, err) < 0)
        return -1;
    for (struct candidate *c = r->first; c != NULL; c = c->next) {
        if (deadline_left(r->call->deadline) == 0)
            return error_set(err, ERR_DEADLINE, "no time was left; what was done is done");
        if (look_at(r, c, err) < 0)
            return -1;
    }
    return 0;
}

int node_reconcile(void *ctx, struct csi_call *call, const struct csi_reconcile_request *req,
                   struct csi_reconcile_reply *ret, struct error *err)
{
    struct reconcile r = { .node = ctx, .call = call, .dry_run = req->dry_run };

    r.items = arena_alloc(call->arena, LEFT_OVERS_MAX * sizeof(*r.items));
    if (r.items == NULL)
        return error_memory(err);
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (find_and_look(&r, &kinds[i], err) < 0)
            return -1;
    }
    *ret = (struct csi_reconcile_reply){ .items = r.items, .n = r.n, .truncated = r.truncated };
    return 0;
}

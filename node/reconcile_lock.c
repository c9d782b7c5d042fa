/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes that another process keeps locked: a child that outlived its coffer-node, a hung
 * controller. Nothing is done about them: every call answers ABORTED until the holder ends, and
 * this says who it is.
 */
#include "common/base.h"
#include "node/reconcile.h"

#include "common/fs.h"

#include <unistd.h>

struct search {
    struct reconcile *r;
    bool failed;
};

static bool note(void *ctx, const struct volume_id *id, const char *pid)
{
    struct search *s = ctx;
    char path[64], name[64], what[128];

    if (strtol(pid, NULL, 10) == getpid())
        return true;
    (void)snprintf(path, sizeof(path), "/proc/%.16s/comm", pid);
    if (fs_read_line(path, name, sizeof(name), NULL) < 0)
        return true; /* ended meanwhile */
    (void)snprintf(what, sizeof(what), "process %.16s (%s)", pid, name);
    struct candidate *c = reconcile_add(s->r, what, 0);
    s->failed = c == NULL;
    if (c == NULL)
        return false;
    c->has_id = true;
    c->id = *id;
    c->locked_why = "it holds the volume's lock: every call on it answers ABORTED until that ends";
    return true;
}

static int look(struct pool *pool, void *ctx, struct error *err)
{
    struct search *s = ctx;

    if (pool->ops->each_lock_holder(pool, note, s, err) < 0)
        return -1;
    return s->failed ? error_memory(err) : 0;
}

int held_lock_find(struct reconcile *r, struct error *err)
{
    struct search s = { .r = r };

    return reconcile_each_pool(r, look, &s, err);
}

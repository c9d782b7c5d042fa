/* SPDX-License-Identifier: Apache-2.0 */
/* rounds.c: every ROUND_MS the driver is asked for everything there is, so that requests are
 * answered from memory; and what a kill or an ended VM left half done is finished. */
#include "common/base.h"
#include "scheduler/scheduler.h"

#include "common/deadline.h"
#include "common/log.h"

struct round {
    struct scheduler *s;
    uint64_t seq;
    bool failed;
};

/* ---- facts ---- */

static int copy_cloud(const struct cloud *from, struct cloud *to)
{
    *to = *from;
    to->devices = calloc(from->n_devices > 0 ? from->n_devices : 1, sizeof(*to->devices));
    if (to->devices == NULL)
        return -1;
    if (from->n_devices > 0)
        memcpy(to->devices, from->devices, from->n_devices * sizeof(*to->devices));
    return 0;
}

/* Nothing is new: the usual case, for which nothing is copied. */
static bool is_same(const struct cloud *a, const struct cloud *b)
{
    return strcmp(a->volume, b->volume) == 0 && strcmp(a->uuid, b->uuid) == 0 &&
           strcmp(a->commitment, b->commitment) == 0 && strcmp(a->node, b->node) == 0 &&
           a->ever_opened == b->ever_opened && a->open == b->open && a->vm == b->vm &&
           strcmp(a->reason, b->reason) == 0 && a->n_devices == b->n_devices &&
           (a->n_devices == 0 ||
            memcmp(a->devices, b->devices, a->n_devices * sizeof(*a->devices)) == 0);
}

/* Newer facts, and those of an operation that runs, are better than this round's. */
static bool is_older(const struct entry *e, const struct round *r)
{
    return e->op == NULL && e->seq < r->seq;
}

static int put(struct round *r, struct entry *e, const struct cloud *c)
{
    bool was_ghost = e != NULL && e->cloud.volume[0] == '\0';
    struct cloud copy = { .devices = NULL };

    if (e != NULL && is_same(&e->cloud, c)) {
        e->seq = r->seq;
    } else if (copy_cloud(c, &copy) < 0 ||
               cloud_table_put(r->s->table, &copy, r->seq, &e, NULL) < 0) {
        cloud_clear(&copy);
        return -1;
    }
    /* an operation's failure is over once somebody sees it well */
    if (was_ghost || (c->open && c->vm == VM_READY))
        e->failure[0] = '\0';
    return 0;
}

static bool seen(void *ctx, const struct cloud *c)
{
    struct round *r = ctx;
    struct entry *e;

    scheduler_lock(r->s);
    e = cloud_table_by_id(r->s->table, c->id);
    if (e == NULL || is_older(e, r))
        r->failed = put(r, e, c) < 0;
    scheduler_unlock(r->s);
    return !r->failed;
}

/* What the round didn't see is gone; a failed create is told a while longer. */
static bool sweep_one(void *ctx, struct entry *e)
{
    struct round *r = ctx;
    bool ghost = e->cloud.volume[0] == '\0' && e->failure[0] != '\0';

    if (is_older(e, r) && !(ghost && clock_ms() - e->failed_at < GHOST_MS))
        cloud_table_remove(r->s->table, e);
    return true;
}

/* ---- what is half done ---- */

static void adopt(struct scheduler *s, struct entry *e, enum operation_kind kind)
{
    struct error err = ERROR_INIT;
    AUTO_OPERATION struct operation *op = NULL;

    if (operation_new(kind, e->cloud.id, &op, &err) < 0 || scheduler_submit(s, e, op, &err) < 0)
        return; /* the next round tries again */
    log_info("a cloud is half done and is taken up", KV("cloud", e->cloud.id),
             KV("operation", op->row->name));
    op = NULL;
}

/* A VM that starts is waited for; a volume that is open without a VM is closed (its session is
 * gone, or a lock was on its way), and a VM without its volume is stopped. */
static bool adopt_one(void *ctx, struct entry *e)
{
    struct round *r = ctx;
    const struct cloud *c = &e->cloud;

    if (e->op != NULL || e->seq != r->seq || c->volume[0] == '\0')
        return true;
    if (e->failure[0] != '\0' && clock_ms() - e->failed_at < ADOPT_AFTER_MS)
        return true;
    if (c->open && c->vm == VM_STARTING)
        adopt(r->s, e, OPERATION_WATCH);
    else if (c->open ? c->vm == VM_NONE : c->vm != VM_NONE)
        adopt(r->s, e, OPERATION_CLOSE);
    return true;
}

/* ---- nodes and the server's key ---- */

static int round_nodes(struct scheduler *s, uint64_t deadline, struct error *err)
{
    struct place_node *nodes = NULL;
    size_t n = 0;

    if (s->config->driver->nodes(s->driver, deadline, &nodes, &n, err) < 0)
        return -1;
    scheduler_lock(s);
    free(s->nodes);
    s->nodes = nodes;
    s->n_nodes = n;
    scheduler_unlock(s);
    return 0;
}

/* Only this thread writes server_key_at. */
static void round_server_key(struct scheduler *s)
{
    struct cloud_server_key key;
    struct error err = ERROR_INIT;
    int rc;

    if (s->server_key_at != 0 && clock_ms() - s->server_key_at < SERVER_KEY_MS)
        return;
    rc = s->config->driver->server_key(s->driver, deadline_in(CALL_MS), &key, &err);
    scheduler_lock(s);
    if (rc == 0) {
        s->server_key = key;
        s->server_key_at = clock_ms();
        s->server_key_error[0] = '\0';
    } else {
        (void)snprintf(s->server_key_error, sizeof(s->server_key_error), "%.500s", err.msg);
    }
    scheduler_unlock(s);
    if (rc < 0)
        log_warn("the server's key can't be had", KV("error", err.msg));
}

/* ---- a round ---- */

static void end_round(struct scheduler *s, struct round *r, uint64_t began, const struct error *err)
{
    bool was_good = s->round_error[0] == '\0', good = err->code == ERR_OK && !r->failed;

    if (good) {
        s->round_at = began;
        s->round_error[0] = '\0';
        cloud_table_each(s->table, sweep_one, r);
        cloud_table_each(s->table, adopt_one, r);
    } else {
        (void)snprintf(s->round_error, sizeof(s->round_error), "%.500s",
                       r->failed ? "out of memory" : err->msg);
    }
    atomic_fetch_add(&s->counters.rounds[good ? 0 : 1], 1);
    if (!good && was_good)
        log_warn("what clouds there are can't be read", KV("error", s->round_error));
    if (good && !was_good)
        log_info("what clouds there are can be read again");
}

void scheduler_round(void *scheduler)
{
    struct scheduler *s = scheduler;
    struct error err = ERROR_INIT;
    uint64_t began = clock_ms();
    struct round r = { .s = s };

    round_server_key(s);
    scheduler_lock(s);
    r.seq = ++s->seq;
    scheduler_unlock(s);
    if (s->config->driver->each(s->driver, deadline_in(CALL_MS), seen, &r, &err) == 0)
        (void)round_nodes(s, deadline_in(CALL_MS), &err);
    scheduler_lock(s);
    end_round(s, &r, began, &err);
    scheduler_unlock(s);
    atomic_store(&s->round_ended, clock_ms());
}

int scheduler_is_fresh(struct scheduler *s, struct error *err)
{
    if (s->round_at != 0 && clock_ms() - s->round_at < STALE_MS)
        return 0;
    return error_set(err, ERR_UNAVAILABLE, "what clouds there are can't be told now%s%s",
                     s->round_error[0] != '\0' ? ": " : "", s->round_error);
}

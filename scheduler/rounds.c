/* SPDX-License-Identifier: Apache-2.0 */
/* rounds.c: every ROUND_MS the driver is asked for everything there is, so that requests are
 * answered from memory; and what a kill or an ended VM left half done is finished. */
#include "common/base.h"
#include "scheduler/scheduler.h"

#include "common/deadline.h"
#include "common/log.h"
#include "scheduler/broken.h"

struct round {
    struct scheduler *s;
    uint64_t seq;
    struct unread_list unread;
    struct error err;
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
           a->unsettled == b->unsettled && strcmp(a->reason, b->reason) == 0 &&
           a->n_devices == b->n_devices &&
           (a->n_devices == 0 ||
            memcmp(a->devices, b->devices, a->n_devices * sizeof(*a->devices)) == 0);
}

/* Newer facts, and those of an operation that runs, are better than this round's. */
static bool is_older(const struct entry *e, const struct round *r)
{
    return e->op == NULL && e->seq < r->seq;
}

static int put(struct round *r, struct entry *e, const struct cloud *c, struct error *err)
{
    bool was_ghost = e != NULL && e->cloud.volume[0] == '\0';
    struct cloud copy = { .devices = NULL };

    if (e != NULL && is_same(&e->cloud, c)) {
        e->seq = r->seq;
    } else if (copy_cloud(c, &copy) < 0) {
        return error_memory(err);
    } else if (cloud_table_put(r->s->table, &copy, r->seq, &e, err) < 0) {
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
    int rc = 0;

    if (c->unread)
        return unread_list_add(&r->unread, c, &r->err) == 0;
    scheduler_lock(r->s);
    e = cloud_table_by_id(r->s->table, c->id);
    if (e == NULL || is_older(e, r))
        rc = put(r, e, c, &r->err);
    scheduler_unlock(r->s);
    return rc == 0;
}

/* What the round could read and didn't see is gone; a failed create is told a while longer. */
static bool sweep_one(void *ctx, struct entry *e)
{
    struct round *r = ctx;
    bool ghost = e->cloud.volume[0] == '\0' && e->failure[0] != '\0';

    if (is_older(e, r) && !(ghost && clock_ms() - e->failed_at < GHOST_MS) &&
        scheduler_unread(r->s, e, e->cloud.id, 0) == NULL)
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

/* What is unsettled comes first: from a list of devices that isn't right any more nobody makes a
 * session that opens. A VM that starts is waited for; a volume that is open without a VM is closed
 * (its session is gone, or a lock was on its way), and a VM whose volume is closed is stopped. */
static bool adopt_one(void *ctx, struct entry *e)
{
    struct round *r = ctx;
    const struct cloud *c = &e->cloud;

    if (e->op != NULL || e->seq != r->seq || c->volume[0] == '\0')
        return true;
    if (e->failure[0] != '\0' && clock_ms() - e->failed_at < ADOPT_AFTER_MS)
        return true;
    if (c->unsettled) {
        if (e->failed_at == 0 || clock_ms() - e->failed_at >= ADOPT_AFTER_MS)
            adopt(r->s, e, OPERATION_SETTLE);
    } else if (c->open && c->vm == VM_STARTING)
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

/* Only this thread writes server_key_at. Of a cloud the key says nothing: while it can't be had,
 * all else goes on. */
static void round_server_key(struct scheduler *s)
{
    struct cloud_server_key key;
    struct error err = ERROR_INIT;
    int rc;

    if (s->server_key_at != 0 && clock_ms() - s->server_key_at < SERVER_KEY_MS)
        return;
    rc = s->config->driver->server_key(s->driver, deadline_in(KEY_MS), &key, &err);
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

/* ---- what can't be read ---- */

/* Said once, when it begins, and once when it is over. */
static void log_unread(void *ctx UNUSED, const struct unread *u, bool is_new)
{
    const char *what = unread_is_node(u)      ? "a node can't be read"
                       : u->volume[0] != '\0' ? "a volume's record can't be read"
                                              : "a cloud's facts can't be read";

    if (is_new)
        log_warn(what, KV("cloud", u->id), KV("volume_id", u->volume), KV("node", u->node),
                 KV("error", u->reason));
    else
        log_info("what couldn't be read can be read again, or is gone", KV("cloud", u->id),
                 KV("volume_id", u->volume), KV("node", u->node));
}

const struct unread *scheduler_unread(struct scheduler *s, const struct entry *e, const char *id,
                                      uint64_t patience)
{
    const struct unread_question q = { .id = id,
                                       .volume = e != NULL ? e->cloud.volume : "",
                                       .node = e != NULL ? e->cloud.node : "",
                                       .at = clock_ms() - patience,
                                       .ops = s->config->driver,
                                       .driver = s->driver };

    return e != NULL && e->seq >= s->unread.seq ? NULL : unread_find(&s->unread, &q);
}

int scheduler_is_read(struct scheduler *s, const struct entry *e, const char *id, uint64_t patience,
                      struct error *err)
{
    const struct unread *u = scheduler_unread(s, e, id, patience);

    if (u == NULL)
        return 0;
    if (!unread_is_node(u))
        return error_set(err, ERR_UNAVAILABLE,
                         "the facts of cloud '%s' can't be read now; the log has the reason", id);
    return error_set(err, ERR_UNAVAILABLE,
                     "node '%s', where cloud '%s' %s, can't be read now; the log has the reason",
                     u->node, id, e != NULL && e->cloud.volume[0] != '\0' ? "is" : "may be");
}

/* ---- a round ---- */

static void end_good(struct scheduler *s, struct round *r, uint64_t began)
{
    unread_list_clear(&s->unread);
    s->unread = r->unread;
    s->unread.seq = r->seq;
    r->unread = (struct unread_list){ .items = NULL };
    s->round_at = began;
    s->round_error[0] = '\0';
    cloud_table_each(s->table, sweep_one, r);
    cloud_table_each(s->table, adopt_one, r);
}

static void end_round(struct scheduler *s, struct round *r, uint64_t began)
{
    bool was_good = s->round_error[0] == '\0', good = r->err.code == ERR_OK;

    if (good) {
        end_good(s, r, began);
    } else {
        (void)snprintf(s->round_error, sizeof(s->round_error), "%.500s", r->err.msg);
        scheduler_end_when_broken(&r->err);
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
    struct round r = { .s = s, .err = ERROR_INIT };
    struct error *err = &r.err;
    uint64_t began;
    int rc;

    round_server_key(s);
    began = clock_ms();
    scheduler_lock(s);
    r.seq = ++s->seq;
    scheduler_unlock(s);
    rc = s->config->driver->each(s->driver, deadline_in(CALL_MS), seen, &r, err);
    if (rc == 0 && err->code == ERR_OK && round_nodes(s, deadline_in(CALL_MS), err) == 0)
        unread_list_follow(&r.unread, &s->unread, began, s->round_at == 0, log_unread, NULL);
    scheduler_lock(s);
    end_round(s, &r, began);
    scheduler_unlock(s);
    unread_list_clear(&r.unread);
    atomic_store(&s->round_ended, clock_ms());
}

int scheduler_is_fresh(struct scheduler *s, struct error *err)
{
    if (s->round_at != 0 && clock_ms() - s->round_at < STALE_MS)
        return 0;
    return error_set(err, ERR_UNAVAILABLE, "what clouds there are can't be told now%s%s",
                     s->round_error[0] != '\0' ? ": " : "", s->round_error);
}

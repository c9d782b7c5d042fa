/* SPDX-License-Identifier: Apache-2.0 */
/* worker.c: the threads that run the steps of operations. */
#include "common/base.h"
#include "scheduler/scheduler.h"

#include "common/deadline.h"
#include "common/fault.h"
#include "common/log.h"

#define RETRY_MIN_MS 200u
#define RETRY_MAX_MS 5000u

int scheduler_submit(struct scheduler *s, struct entry *e, struct operation *op, struct error *err)
{
    if (s->stopping)
        return error_set(err, ERR_UNAVAILABLE, "the scheduler is about to end");
    if (s->n_operations >= OPERATIONS_MAX)
        return error_set(err, ERR_EXHAUSTED, "too many operations run at once");
    op->deadline = deadline_in(OPERATION_MS + s->config->ready_seconds * 1000);
    op->due = 0;
    e->op = op;
    s->n_operations++;
    queue_put(s, op);
    return 0;
}

/* ---- steps ---- */

/* "create.volume", "create.volume.undo": where a test stops us. */
static bool fault(const struct operation *op, const char *step, const char *suffix)
{
    char name[64];

    (void)snprintf(name, sizeof(name), "%s.%s%s", op->row->name, step, suffix);
    return FAULT_FAIL(name);
}

static bool is_worth_a_try(const struct error *err)
{
    return err->code == ERR_UNAVAILABLE || err->code == ERR_ABORTED;
}

static uint64_t retry_at(const struct operation *op)
{
    uint64_t wait = (uint64_t)RETRY_MIN_MS << (op->tries < 5 ? op->tries : 5);

    return deadline_in(wait < RETRY_MAX_MS ? wait : RETRY_MAX_MS);
}

static bool wants_nothing_when_gone(enum operation_kind kind)
{
    return kind == OPERATION_LOCK || kind == OPERATION_DELETE || kind == OPERATION_WATCH ||
           kind == OPERATION_CLOSE || kind == OPERATION_SETTLE;
}

/* Where it is or is to be, for driver.h's find. What a failed create left may be on another node
 * than the one that is asked for now: then both must answer. */
static void likely_node(struct scheduler *s, const struct operation *op,
                        char ret[NODE_NAME_MAX + 1])
{
    const struct entry *e;
    const char *seen;

    scheduler_lock(s);
    e = cloud_table_by_id(s->table, op->id);
    seen = e != NULL ? e->cloud.node : "";
    memcpy(ret, op->node, sizeof(op->node));
    if (op->node[0] == '\0')
        memcpy(ret, seen, strlen(seen) + 1);
    else if (seen[0] != '\0' && strcmp(seen, op->node) != 0)
        ret[0] = '\0';
    scheduler_unlock(s);
}

/* The facts that the first step builds on. */
static enum step_result look(struct scheduler *s, struct operation *op, struct error *err)
{
    struct error why = ERROR_INIT;
    char node[NODE_NAME_MAX + 1];

    if (op->looked)
        return STEP_DONE;
    likely_node(s, op, node);
    if (s->config->driver->find(s->driver, op->id, node, deadline_in(CALL_MS), &op->cloud, &why) ==
        0) {
        op->found = true;
        op->finished = op->cloud.open && op->cloud.vm == VM_READY &&
                       (op->kind == OPERATION_CREATE || op->kind == OPERATION_MOUNT);
    } else if (why.code == ERR_NOT_FOUND && wants_nothing_when_gone(op->kind)) {
        op->finished = true;
    } else if (why.code != ERR_NOT_FOUND || op->kind != OPERATION_CREATE) {
        (void)error_pass(err, &why);
        return STEP_FAILED;
    }
    op->looked = true;
    return STEP_DONE;
}

static enum step_result run_step(struct scheduler *s, struct operation *op, struct error *err)
{
    const struct operation_step *step = &op->row->steps[op->step];
    enum step_result result = look(s, op, err);

    if (result != STEP_DONE || op->finished)
        return result;
    if (op->tries == 0 && fault(op, step->name, "")) {
        (void)error_set(err, ERR_INTERNAL, "injected fault");
        return STEP_FAILED;
    }
    return step->run(s, op, err);
}

/* ---- the end ---- */

/* What find says of a cloud that failed before there was a volume: its device is known by nobody
 * else. Where one may have been made, it is looked for. */
static void keep_ghost(struct operation *op)
{
    struct device *device;

    if (op->kind != OPERATION_CREATE || op->cloud.n_devices > 0)
        return;
    device = calloc(1, sizeof(*device));
    if (device == NULL)
        return;
    *device = op->input.device;
    memcpy(op->cloud.id, op->id, sizeof(op->id));
    if (op->undoes_volume)
        memcpy(op->cloud.node, op->node, sizeof(op->node));
    op->cloud.devices = device;
    op->cloud.n_devices = 1;
}

static void last_look(struct scheduler *s, struct operation *op)
{
    struct cloud now = { .devices = NULL };
    struct error err = ERROR_INIT;
    const char *node = op->cloud.node[0] != '\0' ? op->cloud.node : op->node;

    if (s->config->driver->find(s->driver, op->id, node, deadline_in(CALL_MS), &now, &err) == 0) {
        cloud_clear(&op->cloud);
        op->cloud = now;
        op->found = op->looked = true;
    } else if (err.code == ERR_NOT_FOUND) {
        cloud_clear(&op->cloud);
        op->found = false;
        op->looked = true;
    } /* else what the steps know is the best there is, until the next round */
}

static void tell_waiters(struct operation *op)
{
    while (op->waiters != NULL) {
        struct waiter *w = op->waiters;

        op->waiters = w->next;
        w->op = NULL;
        w->done(w, op->err.code == ERR_OK ? NULL : &op->err);
    }
}

/* The caller holds the lock. */
static void update_entry(struct scheduler *s, struct operation *op)
{
    struct entry *e = cloud_table_by_id(s->table, op->id);
    bool failed = op->err.code != ERR_OK;

    if (e == NULL)
        return;
    e->op = NULL;
    if (failed)
        e->failed_at = clock_ms();
    if (failed && op->row->pending) {
        (void)snprintf(e->failure, sizeof(e->failure), "%s: %.*s", op->row->name,
                       CLOUD_REASON_MAX - 16, op->err.msg);
    } else if (op->row->pending) {
        e->failure[0] = '\0';
    }
    if (!op->looked)
        return; /* it learnt nothing: what was known before is the best there is */
    if (!op->found && failed)
        keep_ghost(op);
    if (op->cloud.n_devices == 0)
        cloud_table_remove(s->table, e);
    else if (cloud_table_put(s->table, &op->cloud, ++s->seq, NULL, NULL) < 0)
        log_warn("a cloud's facts don't fit into memory", KV("cloud", op->id));
}

static void log_end(const struct operation *op)
{
    const uint64_t ms = clock_ms() - op->started;

    if (op->err.code == ERR_OK)
        log_info("operation done", KV("cloud", op->id), KV("device", op->device),
                 KV("operation", op->row->name), KV("ms", ms));
    else
        log_warn("operation failed", KV("cloud", op->id), KV("device", op->device),
                 KV("operation", op->row->name), KV("step", op->row->steps[op->failed_step].name),
                 KV("code", error_code_name(op->err.code)), KV("error", op->err.msg), KV("ms", ms));
}

static void finish(struct scheduler *s, struct operation *op)
{
    (void)fault(op, "end", "");
    last_look(s, op);
    log_end(op);
    atomic_fetch_add(&s->counters.operations[op->kind][op->err.code == ERR_OK ? 0 : 1], 1);
    scheduler_lock(s);
    update_entry(s, op);
    tell_waiters(op);
    s->n_operations--;
    (void)pthread_cond_broadcast(&s->ended);
    scheduler_unlock(s);
    operation_free(op);
}

/* ---- forward, and back ---- */

static void again_at(struct scheduler *s, struct operation *op, uint64_t due)
{
    op->tries++;
    op->due = due;
    scheduler_lock(s);
    queue_put(s, op);
    scheduler_unlock(s);
}

static void go_to(struct scheduler *s, struct operation *op, size_t step, bool undoing)
{
    op->tries = 0;
    scheduler_lock(s);
    op->step = step;
    op->undoing = undoing;
    scheduler_unlock(s);
}

static void undo(struct scheduler *s, struct operation *op)
{
    for (;;) {
        const struct operation_step *step = &op->row->steps[op->step];
        struct error err = ERROR_INIT;

        (void)fault(op, step->name, ".undo");
        if (step->undo != NULL && step->undo(s, op, &err) < 0) {
            if (is_worth_a_try(&err) && deadline_left(op->deadline) > 0) {
                again_at(s, op, retry_at(op));
                return;
            }
            log_warn("undo failed", KV("cloud", op->id), KV("operation", op->row->name),
                     KV("step", step->name), KV("error", err.msg));
            break;
        }
        if (op->step == 0)
            break;
        go_to(s, op, op->step - 1, true);
    }
    finish(s, op);
}

static void fail(struct scheduler *s, struct operation *op, const struct error *err)
{
    op->err = *err;
    op->failed_step = op->step;
    log_debug("a step failed", KV("cloud", op->id), KV("step", op->row->steps[op->step].name),
              KV("error", err->msg));
    op->deadline = deadline_in(UNDO_MS);
    if (!op->found && !op->undoes_volume) {
        finish(s, op);
        return;
    }
    go_to(s, op, op->step, true);
    undo(s, op);
}

static void run(struct scheduler *s, struct operation *op)
{
    if (op->undoing) {
        undo(s, op);
        return;
    }
    for (;;) {
        struct error err = ERROR_INIT;
        enum step_result result = run_step(s, op, &err);

        if (result == STEP_AGAIN) {
            again_at(s, op, op->due);
            return;
        }
        if (result == STEP_FAILED && is_worth_a_try(&err) && deadline_left(op->deadline) > 0) {
            again_at(s, op, retry_at(op));
            return;
        }
        if (result == STEP_FAILED) {
            fail(s, op, &err);
            return;
        }
        if (op->finished || op->step + 1 == op->row->n_steps)
            break;
        go_to(s, op, op->step + 1, false);
    }
    finish(s, op);
}

void *scheduler_worker(void *scheduler)
{
    struct scheduler *s = scheduler;
    struct at_work *at = NULL;

    for (;;) {
        struct operation *op;

        scheduler_lock(s);
        op = queue_take(s, &at);
        scheduler_unlock(s);
        run(s, op);
    }
    return NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/operation.h"

#include "common/deadline.h"
#include "common/strbuf.h"
#include "common/wipe.h"
#include "scheduler/scheduler.h"

#define READY_POLL_MIN_MS 100u
#define READY_POLL_MAX_MS 2000u

/* ---- steps ---- */

static uint64_t call_deadline(const struct operation *op)
{
    uint64_t soon = deadline_in(CALL_MS);

    return soon < op->deadline ? soon : op->deadline;
}

/* The node's figures count it, also a VM that ended. That one gives its place up for a moment:
 * until it is started again nobody else gets it. */
static void keep_place(struct scheduler *s, struct operation *op)
{
    scheduler_lock(s);
    memcpy(op->node, op->cloud.node, sizeof(op->node));
    op->placed = op->cloud.vm == VM_FAILED;
    scheduler_unlock(s);
}

/* On which node: where the volume is, else as the request said if it still fits, else the best. */
static enum step_result run_place(struct scheduler *s, struct operation *op, struct error *err)
{
    if (op->cloud.vm != VM_NONE && op->cloud.volume[0] != '\0') {
        keep_place(s, op);
        return STEP_DONE;
    }
    return scheduler_place_now(s, op, call_deadline(op), err) < 0 ? STEP_FAILED : STEP_DONE;
}

static struct cloud_seed seed_of(const struct operation *op)
{
    return (struct cloud_seed){ .name = op->device,
                                .fingerprint = op->fingerprint,
                                .uuid = op->input.uuid,
                                .commitment = op->input.commitment,
                                .public_key = op->input.device.public_key,
                                .algorithm = op->input.device.algorithm,
                                .wrapped = op->input.device.wrapped,
                                .label = op->input.device.label };
}

/* Reads the facts again: the volume's id and uuid are the driver's to say. */
static int refresh(struct scheduler *s, struct operation *op, struct error *err)
{
    struct cloud now = { .devices = NULL };
    const char *node = op->cloud.node[0] != '\0' ? op->cloud.node : op->node;

    if (s->config->driver->find(s->driver, op->id, node, call_deadline(op), &now, err) < 0)
        return -1;
    cloud_clear(&op->cloud);
    op->cloud = now;
    op->found = true;
    return 0;
}

static enum step_result run_volume(struct scheduler *s, struct operation *op, struct error *err)
{
    const struct cloud_seed seed = seed_of(op);

    if (op->cloud.volume[0] == '\0')
        op->undoes_volume = true; /* said before it is done: a failing call may have made it */
    if (s->config->driver->create_volume(s->driver, op->id, op->node, &seed, call_deadline(op),
                                         err) < 0 ||
        refresh(s, op, err) < 0)
        return STEP_FAILED;
    /* One that is this device's (else it were a conflict) and was never opened holds nothing: a
     * create that was killed had made it, or one without a session. One that was opened isn't new,
     * though the first look saw no volume: a claim that wasn't bound at the time, say. */
    op->undoes_volume = !op->cloud.ever_opened;
    op->finished = op->input.session == NULL; /* it was to make the volume alone */
    return STEP_DONE;
}

static int undo_volume(struct scheduler *s, struct operation *op, struct error *err)
{
    struct error gone = ERROR_INIT;

    if (!op->undoes_volume || op->err.code == ERR_EXISTS)
        return 0;
    if (refresh(s, op, &gone) < 0)
        return gone.code == ERR_NOT_FOUND ? 0 : error_pass(err, &gone);
    if (op->cloud.ever_opened && !op->opens) /* by somebody else, before */
        return 0;
    if (s->config->driver->delete_volume(s->driver, &op->cloud, deadline_in(CALL_MS), err) < 0)
        return -1;
    op->found = false;
    cloud_clear(&op->cloud);
    return 0;
}

static int stop_vm(struct scheduler *s, struct operation *op, uint64_t deadline, struct error *err)
{
    if (s->config->driver->stop(s->driver, &op->cloud, deadline, err) < 0)
        return -1;
    op->cloud.vm = VM_NONE;
    op->cloud.reason[0] = '\0';
    return 0;
}

/* What is left of a VM that ended goes before the session is shown to anybody: where the VM is what
 * has the volume open (a pod), the session would be used up for one that isn't to stay. */
static enum step_result run_attach(struct scheduler *s, struct operation *op, struct error *err)
{
    const struct cloud_session session = operation_session(op);

    if (!op->cloud.open && session.session == NULL) {
        (void)error_set(err, ERR_PRECONDITION, "the volume was closed meanwhile");
        return STEP_FAILED;
    }
    if (op->cloud.vm == VM_FAILED && stop_vm(s, op, call_deadline(op), err) < 0)
        return STEP_FAILED;
    op->opens = true;
    if (s->config->driver->attach(s->driver, &op->cloud, &session, call_deadline(op), err) < 0)
        return STEP_FAILED;
    op->cloud.open = true;
    op->cloud.ever_opened = true;
    return STEP_DONE;
}

static int undo_attach(struct scheduler *s, struct operation *op, struct error *err)
{
    if (s->config->driver->detach(s->driver, &op->cloud, deadline_in(CALL_MS), err) < 0)
        return -1;
    op->cloud.open = false;
    return 0;
}

static enum step_result run_vm(struct scheduler *s, struct operation *op, struct error *err)
{
    if (s->config->driver->start(s->driver, &op->cloud, call_deadline(op), err) < 0)
        return STEP_FAILED;
    if (op->cloud.vm == VM_NONE)
        op->cloud.vm = VM_STARTING;
    return STEP_DONE;
}

static int undo_vm(struct scheduler *s, struct operation *op, struct error *err)
{
    uint64_t grace = s->config->stop_seconds * 1000;

    return stop_vm(s, op, deadline_in(CALL_MS + grace), err);
}

static enum step_result run_ready(struct scheduler *s, struct operation *op, struct error *err)
{
    uint64_t wait = READY_POLL_MIN_MS << (op->tries < 5 ? op->tries : 5);
    bool ready = false;

    if (op->ready_by == 0)
        op->ready_by = deadline_in(s->config->ready_seconds * 1000);
    if (s->config->driver->ready(s->driver, &op->cloud, call_deadline(op), &ready, err) < 0)
        return STEP_FAILED;
    if (ready) {
        op->cloud.vm = VM_READY;
        return STEP_DONE;
    }
    if (deadline_left(op->ready_by) == 0) {
        (void)error_set(err, ERR_DEADLINE, "the VM wasn't ready within %llu s",
                        (unsigned long long)s->config->ready_seconds);
        return STEP_FAILED;
    }
    op->due = deadline_in(wait < READY_POLL_MAX_MS ? wait : READY_POLL_MAX_MS);
    return STEP_AGAIN;
}

static enum step_result run_stop(struct scheduler *s, struct operation *op, struct error *err)
{
    uint64_t grace = s->config->stop_seconds * 1000;

    return stop_vm(s, op, deadline_in(CALL_MS + grace), err) < 0 ? STEP_FAILED : STEP_DONE;
}

static enum step_result run_detach(struct scheduler *s, struct operation *op, struct error *err)
{
    if (s->config->driver->detach(s->driver, &op->cloud, call_deadline(op), err) < 0)
        return STEP_FAILED;
    op->cloud.open = false;
    return STEP_DONE;
}

static enum step_result run_delete(struct scheduler *s, struct operation *op, struct error *err)
{
    if (s->config->driver->delete_volume(s->driver, &op->cloud, call_deadline(op), err) < 0)
        return STEP_FAILED;
    cloud_clear(&op->cloud);
    op->found = false;
    return STEP_DONE;
}

static enum step_result run_add(struct scheduler *s, struct operation *op, struct error *err)
{
    const struct cloud_session session = operation_session(op);

    return s->config->driver->add_device(s->driver, &op->cloud, &op->input.device, &session,
                                         call_deadline(op), err) < 0
               ? STEP_FAILED
               : STEP_DONE;
}

static enum step_result run_remove(struct scheduler *s, struct operation *op, struct error *err)
{
    const struct cloud_session session = operation_session(op);
    const struct cloud_new_key key = { .session = { .session = op->input.new_session,
                                                    .server_key = op->input.new_server_key,
                                                    .fingerprint = op->fingerprint },
                                       .commitment = op->input.new_commitment,
                                       .recipients = op->input.new_recipients };

    return s->config->driver->remove_device(s->driver, &op->cloud, op->input.remove, &session, &key,
                                            call_deadline(op), err) < 0
               ? STEP_FAILED
               : STEP_DONE;
}

static enum step_result run_settle(struct scheduler *s, struct operation *op, struct error *err)
{
    return s->config->driver->settle(s->driver, &op->cloud, call_deadline(op), err) < 0
               ? STEP_FAILED
               : STEP_DONE;
}

/* ---- tables ---- */

static const struct operation_step create_steps[] = {
    { "place", run_place, NULL },          { "volume", run_volume, undo_volume },
    { "attach", run_attach, undo_attach }, { "vm", run_vm, undo_vm },
    { "ready", run_ready, NULL },
};
static const struct operation_step mount_steps[] = {
    { "place", run_place, NULL },
    { "attach", run_attach, undo_attach },
    { "vm", run_vm, undo_vm },
    { "ready", run_ready, NULL },
};
static const struct operation_step lock_steps[] = {
    { "vm", run_stop, NULL },
    { "detach", run_detach, NULL },
};
static const struct operation_step delete_steps[] = {
    { "vm", run_stop, NULL },
    { "detach", run_detach, NULL },
    { "volume", run_delete, NULL },
};
static const struct operation_step add_steps[] = { { "recipients", run_add, NULL } };
static const struct operation_step remove_steps[] = { { "recipients", run_remove, NULL } };
static const struct operation_step settle_steps[] = { { "recipients", run_settle, NULL } };
static const struct operation_step watch_steps[] = { { "ready", run_ready, NULL } };

#define STEPS(table) .steps = (table), .n_steps = ARRAY_SIZE(table)

const struct operation_row operation_rows[OPERATION_KINDS] = {
    [OPERATION_CREATE] = { .name = "create", .pending = true, STEPS(create_steps) },
    [OPERATION_MOUNT] = { .name = "mount", .pending = true, STEPS(mount_steps) },
    [OPERATION_LOCK] = { .name = "lock",
                         .pending = true,
                         .repeats_alike = true,
                         STEPS(lock_steps) },
    [OPERATION_DELETE] = { .name = "delete",
                           .pending = true,
                           .repeats_alike = true,
                           STEPS(delete_steps) },
    [OPERATION_ADD] = { .name = "add", STEPS(add_steps) },
    [OPERATION_REMOVE] = { .name = "remove", STEPS(remove_steps) },
    [OPERATION_WATCH] = { .name = "mount", .pending = true, STEPS(watch_steps) },
    [OPERATION_CLOSE] = { .name = "lock", .pending = true, STEPS(lock_steps) },
    [OPERATION_SETTLE] = { .name = "settle", STEPS(settle_steps) },
};

const char *const operation_kind_names[OPERATION_KINDS] = {
    [OPERATION_CREATE] = "create", [OPERATION_MOUNT] = "mount", [OPERATION_LOCK] = "lock",
    [OPERATION_DELETE] = "delete", [OPERATION_ADD] = "add",     [OPERATION_REMOVE] = "remove",
    [OPERATION_WATCH] = "watch",   [OPERATION_CLOSE] = "close", [OPERATION_SETTLE] = "settle",
};

/* ---- operations as values ---- */

int operation_new(enum operation_kind kind, const char *id, struct operation **ret,
                  struct error *err)
{
    struct operation *op = wipe_calloc(1, sizeof(*op));

    if (op == NULL)
        return error_memory(err);
    op->kind = kind;
    op->row = &operation_rows[kind];
    op->started = clock_ms();
    if (str_copy(op->id, sizeof(op->id), id) < 0) {
        wipe_free(op);
        return error_set(err, ERR_INTERNAL, "a cloud's id is too long");
    }
    *ret = op;
    return 0;
}

void operation_free(struct operation *op)
{
    struct operation_input *in;

    if (op == NULL)
        return;
    in = &op->input;
    char *const texts[] = { in->uuid,           in->commitment,     in->session,
                            in->server_key,     in->new_session,    in->new_server_key,
                            in->new_commitment, in->new_recipients, in->remove };
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        wipe_free(texts[i]);
    cloud_clear(&op->cloud);
    wipe_free(op);
}

int operation_text(char **to, const char *text, struct error *err)
{
    if (text == NULL)
        return 0;
    *to = wipe_strdup(text);
    return *to != NULL ? 0 : error_memory(err);
}

static bool same_text(const char *a, const char *b)
{
    return (a == NULL) == (b == NULL) && (a == NULL || strcmp(a, b) == 0);
}

/* A session is made anew for each request: it says nothing about what is asked for. */
bool operation_is_same(const struct operation *a, const struct operation *b)
{
    const struct operation_input *x = &a->input, *y = &b->input;

    if (a->kind != b->kind)
        return false;
    if (a->row->repeats_alike)
        return true;
    return strcmp(a->device, b->device) == 0 && same_text(x->uuid, y->uuid) &&
           same_text(x->commitment, y->commitment) && same_text(x->remove, y->remove) &&
           same_text(x->new_commitment, y->new_commitment) &&
           strcmp(x->device.name, y->device.name) == 0 &&
           strcmp(x->device.wrapped, y->device.wrapped) == 0;
}

struct cloud_session operation_session(const struct operation *op)
{
    return (struct cloud_session){ .session = op->input.session,
                                   .server_key = op->input.server_key,
                                   .fingerprint = op->fingerprint };
}

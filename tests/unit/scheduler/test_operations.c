/* SPDX-License-Identifier: Apache-2.0 */
/* Operations as values, and their steps one by one; run whole: test_worker.c. */
#include "common/base.h"
#include "scheduler/operation.h"

#include "common/deadline.h"
#include "tests/unit/scheduler/played_driver.h"

static struct scheduler *const s = &played_scheduler;

static struct operation *made(enum operation_kind kind)
{
    struct operation *op = NULL;

    assert_works(operation_new(kind, ID, &op, &err));
    memcpy(op->device, DEVICE, sizeof(op->device));
    op->deadline = deadline_in(60000);
    assert_works(operation_text(&op->input.session, "AAAA", &err));
    return op;
}

static const struct operation_step *step_of(const struct operation *op, const char *name)
{
    for (size_t i = 0; i < op->row->n_steps; i++) {
        if (strcmp(op->row->steps[i].name, name) == 0)
            return &op->row->steps[i];
    }
    fail_msg("%s has no step %s", op->row->name, name);
    return NULL;
}

static enum step_result run(struct operation *op, const char *step, struct error *err)
{
    return step_of(op, step)->run(s, op, err);
}

/* ---- tables ---- */

/* As docs/scheduler.md has them; "!": it can be undone. */
static void test_tables(void **state UNUSED)
{
    static const struct {
        const char *kind, *name, *steps;
        bool pending, alike;
    } rows[OPERATION_KINDS] = {
        [OPERATION_CREATE] = { "create", "create", " place volume! attach! vm! ready", true,
                               false },
        [OPERATION_MOUNT] = { "mount", "mount", " place attach! vm! ready", true, false },
        [OPERATION_LOCK] = { "lock", "lock", " vm detach", true, true },
        [OPERATION_DELETE] = { "delete", "delete", " vm detach volume", true, true },
        [OPERATION_ADD] = { "add", "add", " recipients", false, false },
        [OPERATION_REMOVE] = { "remove", "remove", " recipients", false, false },
        [OPERATION_WATCH] = { "watch", "mount", " ready", true, false },
        [OPERATION_CLOSE] = { "close", "lock", " vm detach", true, false },
        [OPERATION_SETTLE] = { "settle", "settle", " recipients", false, false },
    };

    for (size_t i = 0; i < OPERATION_KINDS; i++) {
        const struct operation_row *row = &operation_rows[i];
        char steps[128] = "";

        for (size_t j = 0; j < row->n_steps; j++) {
            size_t len = strlen(steps);

            assert_non_null(row->steps[j].run);
            (void)snprintf(steps + len, sizeof(steps) - len, " %s%s", row->steps[j].name,
                           row->steps[j].undo != NULL ? "!" : "");
        }
        assert_string_equal(steps, rows[i].steps);
        assert_string_equal(row->name, rows[i].name);
        assert_string_equal(operation_kind_names[i], rows[i].kind);
        assert_int_equal(row->pending, rows[i].pending);
        assert_int_equal(row->repeats_alike, rows[i].alike);
    }
}

/* ---- values ---- */

static void test_new(void **state UNUSED)
{
    AUTO_OPERATION struct operation *op = made(OPERATION_MOUNT);
    struct operation *none = NULL;
    char *text = NULL;

    assert_string_equal(op->id, ID);
    assert_ptr_equal(op->row, &operation_rows[OPERATION_MOUNT]);
    assert_true(op->started != 0 && op->input.uuid == NULL && !op->looked);
    assert_fails(operation_new(OPERATION_MOUNT, ID "0", &none, &err), ERR_INTERNAL,
                 "a cloud's id is too long");
    assert_null(none);
    assert_works(operation_text(&text, NULL, &err));
    assert_null(text);
    operation_free(NULL);
}

static void test_a_session(void **state UNUSED)
{
    AUTO_OPERATION struct operation *op = made(OPERATION_MOUNT);

    assert_works(operation_text(&op->input.server_key, "k:1", &err));
    memcpy(op->fingerprint, DEVICE, sizeof(op->fingerprint));
    assert_string_equal(operation_session(op).session, "AAAA");
    assert_string_equal(operation_session(op).server_key, "k:1");
    assert_string_equal(operation_session(op).fingerprint, DEVICE);
}

/* What a request asks for makes it another one; how it lends the key doesn't. */
static void test_the_same(void **state UNUSED)
{
    for (unsigned int change = 0; change < 9; change++) {
        AUTO_OPERATION struct operation *a = made(OPERATION_CREATE), *b = made(OPERATION_CREATE);
        char **texts[] = { &b->input.uuid, &b->input.commitment, &b->input.remove,
                           &b->input.new_commitment };
        bool same = true;

        assert_works(operation_text(&b->input.server_key, "another", &err));
        assert_works(operation_text(&b->input.new_session, "another", &err));
        if (change < ARRAY_SIZE(texts)) {
            assert_works(operation_text(texts[change], "x", &err));
            same = false;
        } else if (change == 4) {
            b->device[0] = 'x';
            same = false;
        } else if (change == 5) {
            b->input.device.name[0] = 'x';
            same = false;
        } else if (change == 6) {
            b->input.device.wrapped[0] = 'x';
            same = false;
        } else if (change == 7) {
            b->kind = OPERATION_MOUNT;
            same = false;
        }
        assert_int_equal(operation_is_same(a, b), same);
        assert_int_equal(operation_is_same(b, a), same);
    }
}

/* Whoever asks for a lock, or a deletion, asks for the same. */
static void test_repeats_alike(void **state UNUSED)
{
    AUTO_OPERATION struct operation *a = made(OPERATION_LOCK), *b = made(OPERATION_LOCK);
    AUTO_OPERATION struct operation *c = made(OPERATION_DELETE);

    b->device[0] = 'x';
    assert_true(operation_is_same(a, b));
    assert_false(operation_is_same(a, c));
}

/* ---- steps ---- */

static void test_place(void **state UNUSED)
{
    AUTO_OPERATION struct operation *op = made(OPERATION_MOUNT);
    struct error why = ERROR_INIT;

    assert_int_equal(run(op, "place", &why), STEP_DONE);
    assert_true(op->placed && op->node[0] != '\0');
    op->placed = false;
    played.fail[PLAYED_NODES] = (struct played_failure){ ERR_INTERNAL, 9 };
    op->cloud.vm = VM_FAILED; /* of no volume: it says nothing */
    assert_int_equal(run(op, "place", &why), STEP_FAILED);
}

/* Where a VM is, also one that ended, is no question, however full its node is: with it. */
static void test_a_vm_has_its_place(void **state UNUSED)
{
    static const enum vm_state states[] = { VM_READY, VM_STARTING, VM_FAILED };

    played.fail[PLAYED_NODES] = (struct played_failure){ ERR_INTERNAL, 9 };
    for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
        AUTO_OPERATION struct operation *op = made(OPERATION_MOUNT);
        struct error why = ERROR_INIT;

        memcpy(op->cloud.volume, "v", sizeof("v"));
        memcpy(op->cloud.node, "n2", sizeof("n2"));
        op->cloud.vm = states[i];
        assert_int_equal(run(op, "place", &why), STEP_DONE);
        assert_string_equal(op->node, "n2");
        assert_int_equal(op->placed, states[i] == VM_FAILED);
    }
}

static void test_volume(void **state UNUSED)
{
    AUTO_OPERATION struct operation *op = made(OPERATION_CREATE);
    struct error why = ERROR_INIT;

    memcpy(op->node, "n2", sizeof("n2"));
    assert_int_equal(run(op, "volume", &why), STEP_DONE);
    assert_string_equal(op->cloud.volume, "n2/" ID);
    assert_true(op->undoes_volume && op->found && !op->finished);
    assert_int_equal(step_of(op, "volume")->undo(s, op, &why), 0);
    assert_string_equal(played.calls, " create delete");
    assert_true(!op->found && op->cloud.volume[0] == '\0');
    assert_int_equal(step_of(op, "volume")->undo(s, op, &why), 0); /* twice */
    assert_string_equal(played.calls, " create delete");
}

/* It was there and opened: this create didn't make it, and doesn't take it away. */
static void test_a_volume_that_was_there(void **state UNUSED)
{
    AUTO_OPERATION struct operation *op = made(OPERATION_CREATE);
    struct error why = ERROR_INIT;

    memcpy(op->cloud.volume, "v", sizeof("v"));
    played_add(ID)->ever_opened = true;
    assert_int_equal(run(op, "volume", &why), STEP_DONE);
    assert_false(op->undoes_volume);
    assert_int_equal(step_of(op, "volume")->undo(s, op, &why), 0);
    assert_string_equal(played.calls, " create");
    assert_non_null(played_cloud(ID));
}

/* The first look saw none: an opened one may hold a user's data, and no create takes it away,
 * whether it found it or failed. */
static void test_an_opened_volume_that_was_not_seen(void **state UNUSED)
{
    for (unsigned int fails = 0; fails < 2; fails++) {
        AUTO_OPERATION struct operation *op = made(OPERATION_CREATE);
        struct error why = ERROR_INIT;

        (void)played_begin(NULL);
        played.fail[PLAYED_CREATE] = (struct played_failure){ ERR_DATA_LOSS, fails };
        played_add(ID)->ever_opened = true;
        assert_int_equal(run(op, "volume", &op->err), fails > 0 ? STEP_FAILED : STEP_DONE);
        assert_int_equal(step_of(op, "volume")->undo(s, op, &why), 0);
        assert_string_equal(played.calls, " create");
        assert_non_null(played_cloud(ID));
    }
}

/* By this create: what it has made goes whole. */
static void test_a_volume_that_was_opened_just_now(void **state UNUSED)
{
    AUTO_OPERATION struct operation *op = made(OPERATION_CREATE);
    struct error why = ERROR_INIT;

    assert_int_equal(run(op, "volume", &why), STEP_DONE);
    assert_int_equal(run(op, "attach", &why), STEP_DONE);
    assert_int_equal(step_of(op, "attach")->undo(s, op, &why), 0);
    assert_int_equal(step_of(op, "volume")->undo(s, op, &why), 0);
    assert_string_equal(played.calls, " create attach detach delete");
    assert_null(played_cloud(ID));
}

/* What a create that was killed had made, and nobody opened. */
static void test_a_volume_that_was_never_opened(void **state UNUSED)
{
    AUTO_OPERATION struct operation *op = made(OPERATION_CREATE);
    struct error why = ERROR_INIT;

    memcpy(op->cloud.volume, "v", sizeof("v"));
    played_add(ID);
    assert_int_equal(run(op, "volume", &why), STEP_DONE);
    assert_true(op->undoes_volume);
    assert_int_equal(step_of(op, "volume")->undo(s, op, &why), 0);
    assert_string_equal(played.calls, " create delete");
    assert_null(played_cloud(ID));
}

/* A call that fails may have made it; one that says that it is another's has not. */
static void test_a_volume_that_fails(void **state UNUSED)
{
    static const enum error_code codes[] = { ERR_INTERNAL, ERR_EXISTS };

    for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
        AUTO_OPERATION struct operation *op = made(OPERATION_CREATE);

        (void)played_begin(NULL);
        played.fail[PLAYED_CREATE] = (struct played_failure){ codes[i], 1 };
        assert_int_equal(run(op, "volume", &op->err), STEP_FAILED);
        assert_int_equal(op->err.code, codes[i]);
        played_add(ID);
        struct error why = ERROR_INIT;
        assert_int_equal(step_of(op, "volume")->undo(s, op, &why), 0);
        assert_string_equal(played.calls, i == 0 ? " create delete" : " create");
    }
}

static void test_a_volume_alone(void **state UNUSED)
{
    AUTO_OPERATION struct operation *op = NULL;
    struct error why = ERROR_INIT;

    assert_works(operation_new(OPERATION_CREATE, ID, &op, &err));
    op->deadline = deadline_in(60000);
    assert_int_equal(run(op, "volume", &why), STEP_DONE);
    assert_true(op->finished);
}

static void test_attach(void **state UNUSED)
{
    AUTO_OPERATION struct operation *op = made(OPERATION_MOUNT);
    struct error why = ERROR_INIT;

    played_add(ID);
    memcpy(op->cloud.id, ID, sizeof(op->cloud.id));
    assert_int_equal(run(op, "attach", &why), STEP_DONE);
    assert_true(op->cloud.open && op->cloud.ever_opened);
    assert_int_equal(step_of(op, "attach")->undo(s, op, &why), 0);
    assert_false(op->cloud.open);
    assert_string_equal(played.calls, " attach detach");
}

static void test_attach_without_a_session(void **state UNUSED)
{
    AUTO_OPERATION struct operation *op = NULL;

    assert_works(operation_new(OPERATION_MOUNT, ID, &op, &err));
    op->deadline = deadline_in(60000);
    assert_fails(run(op, "attach", &err), ERR_PRECONDITION, "the volume was closed meanwhile");
    assert_string_equal(played.calls, "");
    played_add(ID)->open = true; /* it is open: none is needed */
    memcpy(op->cloud.id, ID, sizeof(op->cloud.id));
    op->cloud.open = true;
    struct error why = ERROR_INIT;
    assert_int_equal(run(op, "attach", &why), STEP_DONE);
}

/* What is left of it goes before the session is used: with a pod the volume is closed. */
static void test_attach_after_a_vm_that_ended(void **state UNUSED)
{
    AUTO_OPERATION struct operation *op = made(OPERATION_MOUNT);
    struct error why = ERROR_INIT;

    played_add(ID)->open = true;
    memcpy(op->cloud.id, ID, sizeof(op->cloud.id));
    op->cloud.open = true;
    op->cloud.vm = VM_FAILED;
    memcpy(op->cloud.reason, "signal 9", sizeof("signal 9"));
    played.fail[PLAYED_STOP] = (struct played_failure){ ERR_UNAVAILABLE, 1 };
    assert_int_equal(run(op, "attach", &why), STEP_FAILED);
    assert_int_equal(run(op, "attach", &why), STEP_DONE);
    assert_int_equal(run(op, "vm", &why), STEP_DONE);
    assert_string_equal(played.calls, " stop stop attach start");
    assert_string_equal(op->cloud.reason, "");
}

static void test_vm(void **state UNUSED)
{
    AUTO_OPERATION struct operation *op = made(OPERATION_MOUNT);
    struct error why = ERROR_INIT;

    played_add(ID);
    memcpy(op->cloud.id, ID, sizeof(op->cloud.id));
    assert_int_equal(run(op, "vm", &why), STEP_DONE);
    assert_int_equal(op->cloud.vm, VM_STARTING);
    op->cloud.vm = VM_READY; /* it stays so */
    assert_int_equal(run(op, "vm", &why), STEP_DONE);
    assert_int_equal(op->cloud.vm, VM_READY);
    assert_int_equal(step_of(op, "vm")->undo(s, op, &why), 0);
    assert_int_equal(op->cloud.vm, VM_NONE);
}

static void test_ready(void **state UNUSED)
{
    AUTO_OPERATION struct operation *op = made(OPERATION_WATCH);
    struct error why = ERROR_INIT;
    uint64_t last = 0;

    played.not_ready = true;
    for (op->tries = 0; op->tries < 4; op->tries++) { /* each time it waits longer */
        assert_int_equal(run(op, "ready", &why), STEP_AGAIN);
        assert_true(deadline_left(op->due) <= 100u << op->tries && op->due > last);
        last = op->due;
    }
    op->tries = 60;
    assert_int_equal(run(op, "ready", &why), STEP_AGAIN);
    assert_true(deadline_left(op->due) <= 2000);
    op->ready_by = clock_ms();
    assert_fails(run(op, "ready", &err), ERR_DEADLINE, "the VM wasn't ready within 1 s");
    played.not_ready = false; /* it counts also at the last moment */
    assert_int_equal(run(op, "ready", &why), STEP_DONE);
    assert_int_equal(op->cloud.vm, VM_READY);
    played.fail[PLAYED_READY] = (struct played_failure){ ERR_PRECONDITION, 1 };
    assert_fails(run(op, "ready", &err), ERR_PRECONDITION, "ready is broken");
}

static void test_down(void **state UNUSED)
{
    AUTO_OPERATION struct operation *op = made(OPERATION_DELETE);
    struct error why = ERROR_INIT;

    played_add(ID);
    memcpy(op->cloud.id, ID, sizeof(op->cloud.id));
    op->cloud.open = op->found = true;
    op->cloud.vm = VM_READY;
    assert_int_equal(run(op, "vm", &why), STEP_DONE);
    assert_int_equal(op->cloud.vm, VM_NONE);
    assert_int_equal(run(op, "detach", &why), STEP_DONE);
    assert_false(op->cloud.open);
    assert_int_equal(run(op, "volume", &why), STEP_DONE);
    assert_true(!op->found && op->cloud.id[0] == '\0');
    assert_string_equal(played.calls, " stop detach delete");
    played.fail[PLAYED_DETACH] = (struct played_failure){ ERR_UNAVAILABLE, 1 };
    assert_fails(run(op, "detach", &err), ERR_UNAVAILABLE, "detach is broken");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED_TEST(test_tables),
        PLAYED_TEST(test_new),
        PLAYED_TEST(test_a_session),
        PLAYED_TEST(test_the_same),
        PLAYED_TEST(test_repeats_alike),
        PLAYED_TEST(test_place),
        PLAYED_TEST(test_a_vm_has_its_place),
        PLAYED_TEST(test_volume),
        PLAYED_TEST(test_a_volume_that_was_there),
        PLAYED_TEST(test_an_opened_volume_that_was_not_seen),
        PLAYED_TEST(test_a_volume_that_was_opened_just_now),
        PLAYED_TEST(test_a_volume_that_was_never_opened),
        PLAYED_TEST(test_a_volume_that_fails),
        PLAYED_TEST(test_a_volume_alone),
        PLAYED_TEST(test_attach),
        PLAYED_TEST(test_attach_without_a_session),
        PLAYED_TEST(test_attach_after_a_vm_that_ended),
        PLAYED_TEST(test_vm),
        PLAYED_TEST(test_ready),
        PLAYED_TEST(test_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

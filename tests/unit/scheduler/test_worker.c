/* SPDX-License-Identifier: Apache-2.0 */
/* Operations as a worker runs them, whole: what is done in what order, taken back, tried again, and
 * what is known afterwards. The steps one by one: test_operations.c; who gets which: test_queue.c.
 */
#include "common/base.h"
#include "scheduler/scheduler.h"

#include "common/deadline.h"
#include "common/thread.h"
#include "tests/unit/scheduler/played_driver.h"

#include <time.h>
#include <unistd.h>

static struct scheduler *const s = &played_scheduler;

/* One worker for the whole program: it never ends. */
static int begin(void **state)
{
    static bool started;

    (void)alarm(600); /* an assertion that fails under the lock has end() wait for it */
    if (started)
        scheduler_lock(s);
    (void)played_begin(state);
    if (started)
        scheduler_unlock(s);
    else
        assert_works(thread_start(scheduler_worker, s, "operations", &err));
    started = true;
    return 0;
}

static int end(void **state)
{
    scheduler_lock(s);
    (void)played_end(state);
    scheduler_unlock(s);
    return 0;
}

/* The caller holds the lock; generous, as the machine may be busy. */
static void wait_for_end(void)
{
    const uint64_t deadline = deadline_in(120000);
    const struct timespec ts = { .tv_sec = (time_t)(deadline / 1000) };

    while (s->n_operations > 0 && deadline_left(deadline) > 0)
        (void)pthread_cond_timedwait(&s->ended, &s->lock, &ts);
    assert_int_equal(s->n_operations, 0);
}

static struct operation *operation(enum operation_kind kind)
{
    struct operation *op = NULL;

    assert_works(operation_new(kind, ID, &op, &err));
    memcpy(op->device, DEVICE, sizeof(op->device));
    memcpy(op->fingerprint, DEVICE, sizeof(op->fingerprint));
    op->input.device = played_device;
    assert_works(operation_text(&op->input.session, "AAAA", &err));
    assert_works(operation_text(&op->input.server_key, "k:1", &err));
    assert_works(operation_text(&op->input.uuid, "u", &err));
    return op;
}

/* An entry as a request of a new cloud makes it. */
static struct entry *new_entry(void)
{
    struct cloud c = { .n_devices = 1 };
    struct entry *e = NULL;

    c.devices = calloc(1, sizeof(*c.devices));
    assert_non_null(c.devices);
    *c.devices = played_device;
    memcpy(c.id, ID, sizeof(c.id));
    assert_works(cloud_table_put(s->table, &c, ++s->seq, &e, &err));
    return e;
}

/* An entry of the cloud that is there. */
static struct entry *seen_entry(void)
{
    scheduler_round(s);
    assert_non_null(played_entry(ID));
    return played_entry(ID);
}

static void run(struct entry *e, struct operation *op)
{
    scheduler_lock(s);
    assert_works(scheduler_submit(s, e, op, &err));
    assert_ptr_equal(e->op, op);
    wait_for_end();
    scheduler_unlock(s);
}

static void run_new(enum operation_kind kind)
{
    run(kind == OPERATION_CREATE ? new_entry() : seen_entry(), operation(kind));
}

/* ---- what goes well ---- */

static void test_each_operation(void **state UNUSED)
{
    static const struct {
        enum operation_kind kind;
        bool open;
        const char *calls;
    } cases[] = {
        { OPERATION_CREATE, false, " create attach start" },
        { OPERATION_MOUNT, false, " attach start" },
        { OPERATION_LOCK, true, " stop detach" },
        { OPERATION_CLOSE, true, " stop detach" },
        { OPERATION_DELETE, true, " stop detach delete" },
        { OPERATION_ADD, true, " add" },
        { OPERATION_REMOVE, true, " remove" },
        { OPERATION_WATCH, true, "" },
        { OPERATION_SETTLE, true, " settle" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct entry *e;

        (void)begin(NULL);
        if (cases[i].kind != OPERATION_CREATE) {
            struct cloud *c = played_add(ID);

            c->open = cases[i].open;
            c->vm = c->open ? VM_READY : VM_NONE;
        }
        unsigned long before = atomic_load(&s->counters.operations[cases[i].kind][0]);
        run_new(cases[i].kind);
        assert_string_equal(played.calls, cases[i].calls);
        assert_int_equal(atomic_load(&s->counters.operations[cases[i].kind][0]), before + 1);
        e = played_entry(ID);
        assert_int_equal(e == NULL, cases[i].kind == OPERATION_DELETE);
        if (e != NULL)
            assert_true(e->op == NULL && e->failure[0] == '\0' && e->cloud.volume[0] != '\0');
        (void)end(NULL);
    }
}

static void test_what_is_so_already(void **state UNUSED)
{
    struct cloud *c = played_add(ID);

    c->open = true;
    c->vm = VM_READY;
    run_new(OPERATION_MOUNT);
    assert_string_equal(played.calls, "");
    run(played_entry(ID), operation(OPERATION_CREATE));
    assert_string_equal(played.calls, "");
}

static void test_what_is_gone_already(void **state UNUSED)
{
    static const enum operation_kind kinds[] = { OPERATION_LOCK, OPERATION_DELETE, OPERATION_CLOSE,
                                                 OPERATION_WATCH, OPERATION_SETTLE };

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        played_add(ID);
        struct entry *e = seen_entry();
        played.clouds[0] = (struct cloud){ .devices = NULL };
        run(e, operation(kinds[i]));
        assert_null(played_entry(ID));
        assert_string_equal(played.calls, "");
    }
    played_add(ID);
    struct entry *e = seen_entry();
    played.clouds[0] = (struct cloud){ .devices = NULL };
    run(e, operation(OPERATION_MOUNT));
    assert_null(played_entry(ID)); /* there is none, and nothing more to say of it */
}

/* ---- what fails is taken back ---- */

static void test_a_create_that_fails(void **state UNUSED)
{
    static const struct {
        enum played_call call;
        const char *calls, *failure;
    } cases[] = {
        { PLAYED_NODES, "", "create: nodes is broken" },
        { PLAYED_CREATE, " create", "create: create is broken" },
        { PLAYED_ATTACH, " create attach detach delete", "create: attach is broken" },
        { PLAYED_START, " create attach start stop detach delete", "create: start is broken" },
        { PLAYED_READY, " create attach start stop detach delete", "create: ready is broken" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct entry *e;

        (void)begin(NULL);
        played.fail[cases[i].call] = (struct played_failure){ ERR_INTERNAL, 1 };
        run_new(OPERATION_CREATE);
        assert_string_equal(played.calls, cases[i].calls);
        assert_null(played_cloud(ID));
        e = played_entry(ID); /* for its device to see */
        assert_non_null(e);
        assert_string_equal(e->failure, cases[i].failure);
        assert_true(e->failed_at != 0 && e->cloud.volume[0] == '\0');
        assert_ptr_equal(cloud_table_by_device(s->table, DEVICE), e);
        (void)end(NULL);
    }
}

/* The volume was there and opened before: it stays, whatever fails. */
static void test_a_mount_that_fails(void **state UNUSED)
{
    static const struct {
        enum operation_kind kind;
        enum played_call call;
        const char *calls;
    } cases[] = {
        { OPERATION_MOUNT, PLAYED_ATTACH, " attach detach" },
        { OPERATION_MOUNT, PLAYED_START, " attach start stop detach" },
        { OPERATION_MOUNT, PLAYED_READY, " attach start stop detach" },
        { OPERATION_CREATE, PLAYED_ATTACH, " create attach detach" },
        { OPERATION_CREATE, PLAYED_READY, " create attach start stop detach" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct entry *e;

        (void)begin(NULL);
        played_add(ID)->ever_opened = true;
        played.fail[cases[i].call] = (struct played_failure){ ERR_PRECONDITION, 1 };
        run(seen_entry(), operation(cases[i].kind));
        assert_string_equal(played.calls, cases[i].calls);
        assert_non_null(played_cloud(ID));
        assert_false(played_cloud(ID)->open);
        e = played_entry(ID);
        assert_true(e != NULL && e->failure[0] != '\0' && e->cloud.volume[0] != '\0');
        (void)end(NULL);
    }
}

/* Somebody else's volume isn't taken away by who asked for it in vain. */
static void test_a_conflict(void **state UNUSED)
{
    played.fail[PLAYED_CREATE] = (struct played_failure){ ERR_EXISTS, 1 };
    run_new(OPERATION_CREATE);
    assert_string_equal(played.calls, " create");
    assert_string_equal(played_entry(ID)->failure, "create: create is broken");
}

static void test_a_vm_that_never_is_ready(void **state UNUSED)
{
    played.not_ready = true;
    run_new(OPERATION_CREATE);
    assert_string_equal(played.calls, " create attach start stop detach delete");
    assert_string_equal(played_entry(ID)->failure, "create: the VM wasn't ready within 1 s");
}

/* ---- what isn't there now is tried again ---- */

static void test_tried_again(void **state UNUSED)
{
    played.fail[PLAYED_FIND] = (struct played_failure){ ERR_UNAVAILABLE, 1 };
    played.fail[PLAYED_ATTACH] = (struct played_failure){ ERR_ABORTED, 2 };
    run_new(OPERATION_CREATE);
    assert_string_equal(played.calls, " create attach attach attach start");
    assert_string_equal(played_entry(ID)->failure, "");
}

static void test_undone_again(void **state UNUSED)
{
    played.fail[PLAYED_READY] = (struct played_failure){ ERR_INTERNAL, 1 };
    played.fail[PLAYED_DETACH] = (struct played_failure){ ERR_UNAVAILABLE, 2 };
    run_new(OPERATION_CREATE);
    assert_string_equal(played.calls, " create attach start stop detach detach detach delete");
    assert_null(played_cloud(ID));
    assert_string_equal(played_entry(ID)->failure, "create: ready is broken"); /* the first */
}

/* What can't be undone ends there: nothing before it is taken from under it. */
static void test_an_undo_that_fails(void **state UNUSED)
{
    played.fail[PLAYED_START] = (struct played_failure){ ERR_INTERNAL, 1 };
    played.fail[PLAYED_DETACH] = (struct played_failure){ ERR_INTERNAL, 1 };
    run_new(OPERATION_CREATE);
    assert_string_equal(played.calls, " create attach start stop detach");
    assert_non_null(played_cloud(ID));
    assert_true(played_entry(ID)->cloud.open); /* for the rounds to close */
}

/* ---- what it learnt ---- */

/* Nothing: what was known before stays, and isn't a failed create's. */
static void test_facts_that_cant_be_read(void **state UNUSED)
{
    static const enum operation_kind kinds[] = { OPERATION_MOUNT, OPERATION_CREATE, OPERATION_LOCK,
                                                 OPERATION_DELETE };

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        struct entry *e;

        (void)begin(NULL);
        played_add(ID);
        e = seen_entry();
        played.clouds[0].unread = true;
        run(e, operation(kinds[i]));
        assert_string_equal(played.calls, "");
        assert_ptr_equal(played_entry(ID), e);
        assert_string_equal(e->cloud.volume, "n1/" ID);
        assert_int_equal(e->cloud.n_devices, 1);
        assert_true(e->failure[0] != '\0' && e->op == NULL);
        (void)end(NULL);
    }
}

/* The last look is the truth, also of what a step wasn't told. */
static void test_the_last_look(void **state UNUSED)
{
    played.fail[PLAYED_FIND] = (struct played_failure){ ERR_OK, 0 };
    run_new(OPERATION_CREATE);
    assert_true(played_entry(ID)->cloud.open && played_entry(ID)->cloud.vm == VM_READY);
    run(played_entry(ID), operation(OPERATION_LOCK));
    assert_true(!played_entry(ID)->cloud.open && played_entry(ID)->cloud.vm == VM_NONE);
    assert_true(played_entry(ID)->cloud.ever_opened);
}

/* Where a cloud is asked for first. */
static void test_where_it_is_looked_for(void **state UNUSED)
{
    struct entry *e = new_entry();
    struct operation *op = operation(OPERATION_CREATE);

    memcpy(op->node, "n2", sizeof("n2"));
    played.fail[PLAYED_NODES] = (struct played_failure){ ERR_INTERNAL, 1 };
    run(e, op);
    assert_string_equal(played.asked, "n2;n2;"); /* first, and when it ends */
    /* what it left may be on n2, and it is to be on n1: both count */
    memcpy(e->cloud.node, "n2", sizeof("n2"));
    op = operation(OPERATION_CREATE);
    memcpy(op->node, "n1", sizeof("n1"));
    played.fail[PLAYED_FIND] = (struct played_failure){ ERR_INTERNAL, 1 };
    played.asked[0] = '\0';
    run(e, op);
    assert_string_equal(played.asked, ";n1;");
    (void)end(NULL);
    (void)begin(NULL);
    played_add(ID);
    run_new(OPERATION_MOUNT);
    assert_string_equal(played.asked, "n1;n1;");
}

/* ---- who waits ---- */

struct waiting {
    struct waiter w;
    unsigned int times;
    enum error_code code;
};

static void done(struct waiter *w, const struct error *err)
{
    struct waiting *me = (struct waiting *)w; /* its first field */

    me->times++;
    me->code = err != NULL ? err->code : ERR_OK;
    assert_null(w->op);
}

static void test_who_waits_is_told_once(void **state UNUSED)
{
    for (unsigned int fails = 0; fails < 2; fails++) {
        struct waiting some[2] = { { .w = { .done = done } }, { .w = { .done = done } } };
        struct operation *op = operation(OPERATION_ADD);

        (void)begin(NULL);
        played_add(ID);
        struct entry *e = seen_entry();
        played.fail[PLAYED_ADD] = (struct played_failure){ ERR_EXISTS, fails };
        for (size_t i = 0; i < ARRAY_SIZE(some); i++) {
            some[i].w.op = op;
            some[i].w.next = op->waiters;
            op->waiters = &some[i].w;
        }
        run(e, op);
        for (size_t i = 0; i < ARRAY_SIZE(some); i++) {
            assert_int_equal(some[i].times, 1);
            assert_int_equal(some[i].code, fails ? ERR_EXISTS : ERR_OK);
        }
        assert_string_equal(e->failure, ""); /* who asked was told */
        (void)end(NULL);
    }
}

/* ---- how many ---- */

static void test_too_many(void **state UNUSED)
{
    struct operation *op = operation(OPERATION_MOUNT);
    struct entry *e;

    played_add(ID);
    e = seen_entry();
    scheduler_lock(s);
    s->n_operations = OPERATIONS_MAX;
    assert_fails(scheduler_submit(s, e, op, &err), ERR_EXHAUSTED,
                 "too many operations run at once");
    s->n_operations = 0;
    s->stopping = true;
    assert_fails(scheduler_submit(s, e, op, &err), ERR_UNAVAILABLE,
                 "the scheduler is about to end");
    s->stopping = false;
    assert_true(e->op == NULL && s->queue == NULL);
    scheduler_unlock(s);
    operation_free(op);
}

static void test_drained(void **state UNUSED)
{
    struct entry *e;

    played_add(ID);
    e = seen_entry();
    assert_true(scheduler_drain(s, deadline_in(1000)));
    s->stopping = false;
    scheduler_lock(s);
    assert_works(scheduler_submit(s, e, operation(OPERATION_MOUNT), &err));
    scheduler_unlock(s);
    assert_true(scheduler_drain(s, deadline_in(120000)));
    assert_string_equal(played.calls, " attach start");
    s->n_operations = 1;
    assert_false(scheduler_drain(s, deadline_in(50)));
    s->n_operations = 0;
}

#define WORKER_TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORKER_TEST(test_each_operation),
        WORKER_TEST(test_what_is_so_already),
        WORKER_TEST(test_what_is_gone_already),
        WORKER_TEST(test_a_create_that_fails),
        WORKER_TEST(test_a_mount_that_fails),
        WORKER_TEST(test_a_conflict),
        WORKER_TEST(test_a_vm_that_never_is_ready),
        WORKER_TEST(test_tried_again),
        WORKER_TEST(test_undone_again),
        WORKER_TEST(test_an_undo_that_fails),
        WORKER_TEST(test_facts_that_cant_be_read),
        WORKER_TEST(test_the_last_look),
        WORKER_TEST(test_where_it_is_looked_for),
        WORKER_TEST(test_who_waits_is_told_once),
        WORKER_TEST(test_too_many),
        WORKER_TEST(test_drained),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

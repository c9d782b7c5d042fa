/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/scheduler.h"

#include "common/deadline.h"
#include "tests/unit/scheduler/played_driver.h"

static struct scheduler *const s = &played_scheduler;

static void round_now(void)
{
    scheduler_round(s);
}

static void test_what_is_there_is_known(void **state UNUSED)
{
    struct cloud *c = played_add(ID);
    struct entry *e;

    assert_fails(scheduler_is_fresh(s, &err), ERR_UNAVAILABLE,
                 "what clouds there are can't be told now");
    round_now();
    assert_works(scheduler_is_fresh(s, &err));
    e = played_entry(ID);
    assert_non_null(e);
    assert_ptr_equal(cloud_table_by_device(s->table, DEVICE), e);
    assert_string_equal(e->cloud.volume, "n1/" ID);
    assert_ptr_not_equal(e->cloud.devices, c->devices);
    assert_int_equal(s->n_nodes, 2);
    /* new facts, each of which makes a difference */
    c->open = c->ever_opened = true;
    c->vm = VM_READY;
    round_now();
    assert_true(e->cloud.open && e->cloud.ever_opened && e->cloud.vm == VM_READY);
    played_device.label[0] = 'P';
    round_now();
    assert_string_equal(e->cloud.devices[0].label, "Phone");
    assert_int_equal(atomic_load(&s->counters.rounds[0]), 3);
}

/* Whatever differs is taken over. */
static void test_each_fact(void **state UNUSED)
{
    struct cloud *c = played_add(ID);
    struct entry *e;

    round_now();
    e = played_entry(ID);
    char *const theirs[] = { c->volume, c->uuid, c->commitment, c->node, c->reason };
    const char *const ours[] = { e->cloud.volume, e->cloud.uuid, e->cloud.commitment, e->cloud.node,
                                 e->cloud.reason };

    for (size_t i = 0; i < ARRAY_SIZE(theirs); i++) {
        memcpy(theirs[i], "new", sizeof("new"));
        round_now();
        assert_string_equal(ours[i], "new");
    }
    c->n_devices = 0;
    round_now();
    assert_int_equal(e->cloud.n_devices, 0);
    assert_null(cloud_table_by_device(s->table, DEVICE));
}

static void test_what_is_gone_is_forgotten(void **state UNUSED)
{
    struct cloud *c = played_add(ID);

    played_add(OTHER);
    round_now();
    assert_int_equal(cloud_table_size(s->table), 2);
    c->id[0] = '\0';
    round_now();
    assert_null(played_entry(ID));
    assert_non_null(played_entry(OTHER));
}

/* It fails as a whole: what was known stays known, for a while. */
static void test_a_round_that_fails(void **state UNUSED)
{
    played_add(ID);
    round_now();
    played_cloud(ID)->id[0] = '\0';
    played.fail[PLAYED_EACH] = (struct played_failure){ ERR_UNAVAILABLE, 1 };
    round_now();
    assert_non_null(played_entry(ID));
    assert_works(scheduler_is_fresh(s, &err));
    s->round_at = clock_ms() - STALE_MS - 1;
    assert_fails(scheduler_is_fresh(s, &err), ERR_UNAVAILABLE,
                 "what clouds there are can't be told now: each is broken");
    played.fail[PLAYED_NODES] = (struct played_failure){ ERR_UNAVAILABLE, 1 };
    round_now();
    assert_fails(scheduler_is_fresh(s, &err), ERR_UNAVAILABLE,
                 "what clouds there are can't be told now: nodes is broken");
    assert_non_null(played_entry(ID));
    round_now();
    assert_null(played_entry(ID));
    assert_works(scheduler_is_fresh(s, &err));
}

/* ---- facts of before, and of an operation ---- */

static void test_newer_facts_stay(void **state UNUSED)
{
    struct entry *e;

    played_add(ID);
    round_now();
    e = played_entry(ID);
    e->seq = s->seq + 10; /* an operation ended since the driver was asked */
    e->cloud.open = true;
    round_now();
    assert_true(e->cloud.open);
    played_cloud(ID)->id[0] = '\0';
    round_now();
    assert_ptr_equal(played_entry(ID), e);
    e->seq = 0;
    round_now();
    assert_null(played_entry(ID));
}

static void test_what_runs_is_left_alone(void **state UNUSED)
{
    struct entry *e;
    struct operation *op = NULL;

    played_add(ID);
    round_now();
    e = played_entry(ID);
    assert_works(operation_new(OPERATION_LOCK, ID, &op, &err));
    assert_works(scheduler_submit(s, e, op, &err));
    played_cloud(ID)->open = true;
    round_now();
    assert_false(e->cloud.open);
    played_cloud(ID)->id[0] = '\0';
    round_now();
    assert_ptr_equal(played_entry(ID), e);
}

static struct entry *ghost(uint64_t failed_at)
{
    struct cloud c = { .devices = NULL };
    struct entry *e = NULL;

    memcpy(c.id, ID, sizeof(c.id));
    assert_works(cloud_table_put(s->table, &c, 0, &e, &err));
    (void)snprintf(e->failure, sizeof(e->failure), "create: no");
    e->failed_at = failed_at;
    return e;
}

static void test_a_failed_create_is_told_for_a_while(void **state UNUSED)
{
    struct entry *e = ghost(clock_ms());

    round_now();
    assert_ptr_equal(played_entry(ID), e);
    e->failed_at = clock_ms() - GHOST_MS - 1;
    round_now();
    assert_null(played_entry(ID));
    e = ghost(clock_ms());
    played_add(ID); /* there is one after all */
    round_now();
    assert_string_equal(e->failure, "");
    assert_string_equal(e->cloud.volume, "n1/" ID);
}

static void test_a_failure_ends_when_it_is_well(void **state UNUSED)
{
    struct cloud *c = played_add(ID);
    struct entry *e;

    round_now();
    e = played_entry(ID);
    e->failed_at = clock_ms();
    memcpy(e->failure, "mount: no", sizeof("mount: no"));
    round_now();
    assert_string_equal(e->failure, "mount: no");
    c->open = true;
    c->vm = VM_READY;
    round_now();
    assert_string_equal(e->failure, "");
}

/* ---- what is half done ---- */

static void test_what_is_taken_up(void **state UNUSED)
{
    static const struct {
        bool open, volume;
        enum vm_state vm;
        int kind; /* -1: nothing */
        bool unsettled;
    } cases[] = {
        { false, true, VM_NONE, -1, false },
        { true, true, VM_READY, -1, false },
        { true, true, VM_FAILED, -1, false }, /* its user is to see it */
        { true, true, VM_STARTING, OPERATION_WATCH, false },
        { true, true, VM_NONE, OPERATION_CLOSE, false },
        { false, true, VM_READY, OPERATION_CLOSE, false },
        { false, true, VM_FAILED, OPERATION_CLOSE, false },
        { false, false, VM_READY, -1, false },
        { false, true, VM_NONE, OPERATION_SETTLE, true },
        { true, true, VM_READY, OPERATION_SETTLE, true },
        { true, true, VM_NONE, OPERATION_SETTLE, true }, /* first; then it is closed */
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct entry *e;
        struct cloud *c;

        (void)played_begin(NULL);
        c = played_add(ID);
        c->open = cases[i].open;
        c->vm = cases[i].vm;
        c->unsettled = cases[i].unsettled;
        if (!cases[i].volume)
            c->volume[0] = '\0';
        round_now();
        e = played_entry(ID);
        assert_non_null(e);
        if (cases[i].kind < 0)
            assert_null(e->op);
        else
            assert_int_equal(e->op->kind, cases[i].kind);
        (void)played_end(NULL);
    }
}

static void test_a_failure_is_waited_over(void **state UNUSED)
{
    struct entry *e;

    played_add(ID);
    round_now();
    e = played_entry(ID);
    memcpy(e->failure, "lock: no", sizeof("lock: no"));
    e->failed_at = clock_ms();
    played_cloud(ID)->open = true;
    round_now();
    assert_null(e->op);
    e->failed_at = clock_ms() - ADOPT_AFTER_MS - 1;
    round_now();
    assert_non_null(e->op);
}

/* What can't be settled now doesn't keep its cloud busy. */
static void test_settling_is_waited_over(void **state UNUSED)
{
    struct entry *e;

    played_add(ID);
    round_now();
    e = played_entry(ID);
    e->failed_at = clock_ms();
    played_cloud(ID)->unsettled = true;
    round_now();
    assert_true(e->op == NULL && e->cloud.unsettled);
    e->failed_at = clock_ms() - ADOPT_AFTER_MS - 1;
    round_now();
    assert_int_equal(e->op->kind, OPERATION_SETTLE);
}

/* ---- what can't be read ---- */

static void hide(struct cloud *c, bool known)
{
    c->unread = true;
    (void)snprintf(c->reason, sizeof(c->reason), "no magic");
    if (!known)
        c->id[0] = '\0'; /* its volume's id says whose it is */
}

static void test_unreadable_is_not_absent(void **state UNUSED)
{
    for (unsigned int known = 0; known < 2; known++) {
        struct cloud *c;
        struct entry *e;

        (void)played_begin(NULL);
        c = played_add(ID);
        c->open = c->ever_opened = true;
        c->vm = VM_READY;
        played_add(OTHER);
        round_now();
        e = played_entry(ID);
        c->vm = VM_NONE;
        hide(c, known);
        round_now();
        round_now();
        assert_ptr_equal(played_entry(ID), e);
        assert_true(e->cloud.vm == VM_READY && e->op == NULL);
        assert_fails(scheduler_is_read(s, e, ID, STALE_MS, &err), ERR_UNAVAILABLE,
                     "the facts of cloud '" ID "' can't be read now; the log has the reason");
        assert_works(scheduler_is_read(s, played_entry(OTHER), OTHER, 0, &err));
        assert_works(scheduler_is_fresh(s, &err));
        c->unread = false;
        memcpy(c->id, ID, sizeof(c->id));
        round_now();
        assert_works(scheduler_is_read(s, e, ID, 0, &err));
        assert_int_equal(e->op->kind, OPERATION_CLOSE);
        (void)played_end(NULL);
    }
}

static void test_one_that_was_never_seen(void **state UNUSED)
{
    hide(played_add(ID), false);
    round_now();
    assert_int_equal(cloud_table_size(s->table), 0);
    assert_fails(scheduler_is_read(s, NULL, ID, STALE_MS, &err), ERR_UNAVAILABLE,
                 "the facts of cloud '" ID "' can't be read now; the log has the reason");
    assert_works(scheduler_is_read(s, NULL, OTHER, 0, &err));
}

/* Facts that an operation brought since are better. */
static void test_facts_of_after(void **state UNUSED)
{
    struct entry *e;

    played_add(ID);
    round_now();
    e = played_entry(ID);
    hide(played_cloud(ID), true);
    round_now();
    e->seq = s->seq + 1;
    assert_works(scheduler_is_read(s, e, ID, 0, &err));
}

static void silence(const char *node)
{
    struct cloud *c = played_cloud("");

    assert_non_null(c);
    *c = (struct cloud){ .unread = true };
    (void)snprintf(c->node, sizeof(c->node), "%s", node);
}

static void test_a_silent_node(void **state UNUSED)
{
    struct entry *e;

    played_add(ID);
    played_add(OTHER);
    memcpy(played_cloud(OTHER)->node, "n2", sizeof("n2"));
    round_now();
    e = played_entry(ID);
    played.clouds[0] = (struct cloud){ .devices = NULL };
    silence("n1");
    round_now();
    assert_ptr_equal(played_entry(ID), e);
    assert_works(scheduler_is_read(s, e, ID, STALE_MS, &err)); /* as it was, for a minute */
    assert_fails(scheduler_is_read(s, e, ID, 0, &err), ERR_UNAVAILABLE,
                 "node 'n1', where cloud '" ID "' is, can't be read now; the log has the reason");
    s->unread.items[0].since -= STALE_MS;
    round_now();
    assert_fails(scheduler_is_read(s, e, ID, STALE_MS, &err), ERR_UNAVAILABLE,
                 "node 'n1', where cloud '" ID "' is, can't be read now; the log has the reason");
    assert_works(scheduler_is_read(s, played_entry(OTHER), OTHER, 0, &err));
    assert_works(scheduler_is_read(s, NULL, "00000000000000000000000000000000", 0, &err));
    played.clouds[0] = (struct cloud){ .devices = NULL };
    round_now(); /* it is read again, and doesn't have it */
    assert_null(played_entry(ID));
}

static void test_a_node_that_was_never_read(void **state UNUSED)
{
    played_add(OTHER);
    silence("n2");
    round_now();
    assert_works(scheduler_is_read(s, played_entry(OTHER), OTHER, 0, &err));
    for (unsigned int i = 0; i < 2; i++) {
        assert_fails(scheduler_is_read(s, NULL, ID, STALE_MS, &err), ERR_UNAVAILABLE,
                     "node 'n2', where cloud '" ID
                     "' may be, can't be read now; the log has the reason");
        round_now();
    }
    played.clouds[1] = (struct cloud){ .devices = NULL };
    round_now();
    silence("n2");
    round_now();
    assert_works(scheduler_is_read(s, NULL, ID, 0, &err)); /* it wasn't there */
}

/* ---- the server's key ---- */

static void test_the_servers_key(void **state UNUSED)
{
    played.fail[PLAYED_SERVER_KEY] = (struct played_failure){ ERR_UNAVAILABLE, 1 };
    round_now();
    assert_int_equal(s->server_key_at, 0);
    assert_string_equal(s->server_key_error, "server_key is broken");
    assert_works(scheduler_is_fresh(s, &err)); /* clouds can be told */
    round_now();
    assert_string_equal(s->server_key.key_id, "k:1");
    assert_string_equal(s->server_key_error, "");
    played.fail[PLAYED_SERVER_KEY] = (struct played_failure){ ERR_UNAVAILABLE, 1 };
    round_now(); /* it is known, so it isn't asked */
    assert_int_equal(played.fail[PLAYED_SERVER_KEY].times, 1);
    s->server_key_at = clock_ms() - SERVER_KEY_MS - 1;
    round_now();
    assert_string_equal(s->server_key_error, "server_key is broken");
    assert_string_equal(s->server_key.key_id, "k:1"); /* what was known stays known */
}

/* Vault is away, and coffer-keyd waits for it: what there is can be told all the same. */
static void test_a_key_that_is_waited_for(void **state UNUSED)
{
    uint64_t before = clock_ms();

    played.key_takes = 30;
    round_now();
    assert_true(s->round_at >= before + 30);
    assert_true(played.key_left <= STALE_MS / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED_TEST(test_what_is_there_is_known),
        PLAYED_TEST(test_each_fact),
        PLAYED_TEST(test_what_is_gone_is_forgotten),
        PLAYED_TEST(test_a_round_that_fails),
        PLAYED_TEST(test_newer_facts_stay),
        PLAYED_TEST(test_what_runs_is_left_alone),
        PLAYED_TEST(test_a_failed_create_is_told_for_a_while),
        PLAYED_TEST(test_a_failure_ends_when_it_is_well),
        PLAYED_TEST(test_what_is_taken_up),
        PLAYED_TEST(test_a_failure_is_waited_over),
        PLAYED_TEST(test_settling_is_waited_over),
        PLAYED_TEST(test_unreadable_is_not_absent),
        PLAYED_TEST(test_one_that_was_never_seen),
        PLAYED_TEST(test_facts_of_after),
        PLAYED_TEST(test_a_silent_node),
        PLAYED_TEST(test_a_node_that_was_never_read),
        PLAYED_TEST(test_the_servers_key),
        PLAYED_TEST(test_a_key_that_is_waited_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

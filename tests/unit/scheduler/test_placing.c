/* SPDX-License-Identifier: Apache-2.0 */
/* Where a cloud is put, with what runs; which node is best: test_place.c. */
#include "common/base.h"
#include "scheduler/scheduler.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "tests/unit/scheduler/played_driver.h"

static struct scheduler *const s = &played_scheduler;

static struct operation *running(const char *id, enum operation_kind kind, const char *node)
{
    struct cloud c = { .devices = NULL };
    struct operation *op = NULL;
    struct entry *e = NULL;

    (void)snprintf(c.id, sizeof(c.id), "%s", id);
    assert_works(cloud_table_put(s->table, &c, 1, &e, &err));
    assert_works(operation_new(kind, id, &op, &err));
    assert_works(scheduler_submit(s, e, op, &err));
    (void)snprintf(op->node, sizeof(op->node), "%s", node);
    op->placed = true;
    return op;
}

static struct place_node *copied(const struct operation *without)
{
    struct place_node *nodes = NULL;

    assert_works(scheduler_nodes_copy(s, played.nodes, played.n_nodes, without, &nodes, &err));
    return nodes;
}

/* What an operation will take is taken, until the driver's figures have it. */
static void test_what_runs_takes_room(void **state UNUSED)
{
    static const struct {
        enum operation_kind kind;
        size_t step;
        bool placed, undoing;
        unsigned int memory, storage;
    } cases[] = {
        { OPERATION_CREATE, 0, true, false, 100, 10 },
        { OPERATION_CREATE, 1, true, false, 100, 10 },
        { OPERATION_CREATE, 2, true, false, 100, 0 }, /* the volume is there */
        { OPERATION_CREATE, 3, true, false, 100, 0 },
        { OPERATION_CREATE, 4, true, false, 0, 0 }, /* the VM is */
        { OPERATION_CREATE, 0, false, false, 0, 0 },
        { OPERATION_CREATE, 1, true, true, 0, 0 },
        { OPERATION_MOUNT, 1, true, false, 100, 0 },
        { OPERATION_MOUNT, 3, true, false, 0, 0 },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct operation *op;

        (void)played_begin(NULL);
        op = running(ID, cases[i].kind, "n2");
        op->step = cases[i].step;
        op->placed = cases[i].placed;
        op->undoing = cases[i].undoing;
        AUTO_FREE struct place_node *with = copied(NULL), *without = copied(op);
        assert_int_equal(with[1].memory_used, cases[i].memory);
        assert_int_equal(with[1].storage_free, 100 - cases[i].storage);
        assert_int_equal(with[1].vms, cases[i].memory > 0);
        assert_int_equal(with[0].memory_used, 0);
        assert_int_equal(without[1].memory_used, 0);
        assert_int_equal(played.nodes[1].memory_used, 0); /* it was a copy */
        (void)played_end(NULL);
    }
}

static void test_more_than_there_is(void **state UNUSED)
{
    played.nodes[0].storage_free = 4;
    (void)running(ID, OPERATION_CREATE, "n1");
    AUTO_FREE struct place_node *nodes = copied(NULL);
    assert_int_equal(nodes[0].storage_free, 0);
}

static void test_a_request(void **state UNUSED)
{
    struct place_request r;

    played_config.headroom_percent = 7;
    r = scheduler_place_request(s, "n1", false);
    assert_string_equal(r.volume_node, "n1");
    assert_true(r.memory == 100 && r.storage == 10 && r.headroom_percent == 7 && !r.spread);
    assert_true(scheduler_place_request(s, "", true).spread);
    played_config.spread = true;
    assert_true(scheduler_place_request(s, "", false).spread);
    played_config.spread = false;
    played_config.headroom_percent = 0;
}

/* Where a new one would go, and its volume's name there. */
static void test_new(void **state UNUSED)
{
    char node[NODE_NAME_MAX + 1] = "", volume[CLOUD_HANDLE_MAX + 1] = "";

    assert_fails(scheduler_place_new(s, ID, false, node, volume, &err), ERR_EXHAUSTED,
                 "no node has room: there is none"); /* no round yet */
    scheduler_round(s);
    assert_works(scheduler_place_new(s, ID, false, node, volume, &err));
    assert_string_equal(node, "n1");
    assert_string_equal(volume, "n1/" ID);
    (void)running(OTHER, OPERATION_CREATE, "n1");
    assert_works(scheduler_place_new(s, ID, true, node, volume, &err)); /* spread */
    assert_string_equal(node, "n2");
    assert_works(scheduler_place_new(s, ID, false, node, volume, &err)); /* packed */
    assert_string_equal(node, "n1");
}

static void test_the_node_of_a_volume(void **state UNUSED)
{
    char node[NODE_NAME_MAX + 1] = "";

    scheduler_round(s);
    assert_works(scheduler_node_of(s, ID, "n2/" ID, node, &err));
    assert_string_equal(node, "n2");
    assert_fails(scheduler_node_of(s, ID, "n2/" OTHER, node, &err), ERR_NOT_FOUND,
                 "no node would have that volume");
    assert_string_equal(node, "n2");
}

/* ---- now ---- */

static struct operation *asking(const char *node, const char *volume_node)
{
    struct operation *op = NULL;

    assert_works(operation_new(OPERATION_CREATE, ID, &op, &err));
    (void)snprintf(op->node, sizeof(op->node), "%s", node);
    (void)snprintf(op->cloud.node, sizeof(op->cloud.node), "%s", volume_node);
    return op;
}

static int place_it(struct operation *op, struct error *err)
{
    return scheduler_place_now(s, op, deadline_in(1000), err);
}

static void test_the_best_one(void **state UNUSED)
{
    AUTO_OPERATION struct operation *op = asking("", "");

    played.nodes[1].memory_used = 500; /* bin packing */
    assert_works(place_it(op, &err));
    assert_string_equal(op->node, "n2");
    assert_true(op->placed);
}

/* Which one the device's session was made for. */
static void test_the_one_that_was_asked_for(void **state UNUSED)
{
    AUTO_OPERATION struct operation *op = asking("n1", "");

    played.nodes[1].memory_used = 500;
    assert_works(place_it(op, &err));
    assert_string_equal(op->node, "n1");
    assert_true(op->placed);
    op->placed = false;
    played.nodes[0].memory_used = 950;
    assert_fails(place_it(op, &err), ERR_EXHAUSTED, "node 'n1' has no room any more");
    assert_false(op->placed);
}

static void test_where_the_volume_is(void **state UNUSED)
{
    AUTO_OPERATION struct operation *op = asking("n1", "n2");

    played.nodes[1].storage_free = 0; /* it has its room */
    assert_works(place_it(op, &err));
    assert_string_equal(op->node, "n2");
    played.nodes[1].schedulable = false;
    assert_fails(place_it(op, &err), ERR_UNAVAILABLE,
                 "node 'n2', where the volume is: takes no VMs now");
}

/* A claim that was to have a volume on a node that is gone; with the same key it is gone on with.
 */
static void test_where_there_never_was_a_volume(void **state UNUSED)
{
    AUTO_OPERATION struct operation *op = asking("", "n3");

    assert_works(operation_text(&op->input.uuid, "new", &err));
    memcpy(op->cloud.uuid, "old", sizeof("old"));
    assert_works(place_it(op, &err));
    assert_string_equal(op->node, "n1");
    memcpy(op->cloud.uuid, "new", sizeof("new"));
    assert_fails(place_it(op, &err), ERR_UNAVAILABLE,
                 "node 'n3', where the volume is, isn't there");
    memcpy(op->cloud.uuid, "old", sizeof("old"));
    memcpy(op->cloud.volume, "v", sizeof("v"));
    assert_fails(place_it(op, &err), ERR_UNAVAILABLE,
                 "node 'n3', where the volume is, isn't there");
}

/* Its own room isn't taken twice. */
static void test_an_operation_doesnt_stand_in_its_own_way(void **state UNUSED)
{
    struct operation *op = running(ID, OPERATION_CREATE, "n1");

    played.n_nodes = 1;
    played.nodes[0].memory = 150;
    assert_works(place_it(op, &err));
    (void)running(OTHER, OPERATION_CREATE, "n1");
    assert_fails(place_it(op, &err), ERR_EXHAUSTED, "node 'n1' has no room any more");
}

static void test_nodes_that_cant_be_asked(void **state UNUSED)
{
    AUTO_OPERATION struct operation *op = asking("", "");

    played.fail[PLAYED_NODES] = (struct played_failure){ ERR_UNAVAILABLE, 1 };
    assert_fails(place_it(op, &err), ERR_UNAVAILABLE, "nodes is broken");
    assert_false(op->placed);
}

static void test_as_many_as_there_may_be(void **state UNUSED)
{
    (void)running(ID, OPERATION_CREATE, "n1"); /* it is being made */
    assert_works(scheduler_may_grow(s, &err));
    played_config.clouds_max = 2;
    assert_works(scheduler_may_grow(s, &err));
    played_config.clouds_max = 1;
    assert_fails(scheduler_may_grow(s, &err), ERR_EXHAUSTED,
                 "there are as many clouds as there may be");
    played_config.clouds_max = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED_TEST(test_what_runs_takes_room),
        PLAYED_TEST(test_more_than_there_is),
        PLAYED_TEST(test_a_request),
        PLAYED_TEST(test_new),
        PLAYED_TEST(test_the_node_of_a_volume),
        PLAYED_TEST(test_the_best_one),
        PLAYED_TEST(test_the_one_that_was_asked_for),
        PLAYED_TEST(test_where_the_volume_is),
        PLAYED_TEST(test_where_there_never_was_a_volume),
        PLAYED_TEST(test_an_operation_doesnt_stand_in_its_own_way),
        PLAYED_TEST(test_nodes_that_cant_be_asked),
        PLAYED_TEST(test_as_many_as_there_may_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

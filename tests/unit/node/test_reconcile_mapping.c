/* SPDX-License-Identifier: Apache-2.0 */
/* Reconcile's dead mappings: what a target still shows is no left-over. coffer-crypt is a script
 * that lists one mapping and writes down what it was asked to close. Needs root (rig.h). */
#include "common/base.h"
#include "tests/unit/node/bench.h"
#include "tests/unit/node/helper.h"

#include "common/arena.h"
#include "node/reconcile.h"

static struct helper helper;

/* The volume's mapping, whose backing device is gone; nobody has it open. */
static void list_dead(void)
{
    helper = helper_make(&b.t);
    helper_lists(&helper, b.dm_name, RIG_UUID, RIG_LOOP, 0, "zombie", "its disk is gone");
    b.node.crypt.helper = helper.path;
}

/* Reconcile has one row, of the mapping: it does that, for a reason that holds the word. */
static void expect(const char *action, const char *word)
{
    const struct csi_reconcile_request req = { .dry_run = false };
    struct csi_call call = { .arena = arena_new(MIB(4)), .deadline = DEADLINE_NEVER };
    struct csi_reconcile_reply reply;

    assert_works(node_reconcile(&b.node, &call, &req, &reply, &err));
    assert_int_equal(reply.n, 1);
    assert_string_equal(reply.items[0].kind, "mapping");
    if (strcmp(reply.items[0].action, action) != 0 || strstr(reply.items[0].why, word) == NULL)
        fail_msg("%s: %s", reply.items[0].action, reply.items[0].why);
    arena_free(call.arena);
}

/* A published raw block volume's node doesn't keep its mapping open: with the mapping gone, its
 * number could be another device's, and the pod would have that. */
static void test_dead_and_shown(void **state UNUSED)
{
    NEEDS_RIG();
    bench_make(true);
    assert_works(publish(&err));
    list_dead();
    expect("none", "is still shown at");
    assert_false(helper_closed(&helper, b.dm_name));
    assert_works(unpublish(&err));
    expect("reap", "it is dead: its disk is gone");
    assert_true(helper_closed(&helper, b.dm_name));
}

int main(void)
{
    const struct CMUnitTest tests[] = { BENCH_TEST(test_dead_and_shown) };

    rig_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

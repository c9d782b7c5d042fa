/* SPDX-License-Identifier: Apache-2.0 */
/* Reconcile's device nodes where sysfs can't say whose number one has. */
#include "common/base.h"
#include "tests/unit/node/rig.h"

#include "common/deadline.h"
#include "common/keylock.h"
#include "node/reconcile.h"

#define NAME "coffer-" RIG_HASH "-01234567"

/* The rows of kind "node". */
static size_t look(const char *device_dir)
{
    const struct csi_reconcile_request req = { .dry_run = true };
    struct pool_set none = { .n = 0 };
    struct node node = { .pools = &none,
                         .locks = keylock_new(),
                         .crypt = { .helper = "/bin/false" },
                         .device_dir = device_dir };
    struct csi_call call = { .arena = arena_new(MIB(4)), .deadline = DEADLINE_NEVER };
    struct csi_reconcile_reply reply;
    size_t n = 0;

    assert_works(node_reconcile(&node, &call, &req, &reply, &err));
    for (size_t i = 0; i < reply.n; i++)
        n += strcmp(reply.items[i].kind, "node") == 0;
    arena_free(call.arena);
    keylock_free(node.locks);
    return n;
}

static void test_nobody_can_say(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();

    NEEDS_RIG();
    rig_mapping("dm-0", NAME, RIG_UUID, makedev(4095, 7), false);
    if (mknod(tmpdir_path(&t, NAME), S_IFBLK | 0600, makedev(4095, 7)) < 0)
        skip_because(SKIP_NO_ROOT);
    assert_int_equal(look(t.path), 0);
    assert_int_equal(unlink("/sys/block/dm-0/dm/name"), 0);
    assert_int_equal(look(t.path), 1);
    assert_int_equal(symlink("name", "/sys/block/dm-0/dm/name"), 0);
    assert_int_equal(look(t.path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nobody_can_say, rig_clear, rig_clear),
    };

    rig_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* NodeGetVolumeStats. Needs root (rig.h). */
#include "common/base.h"
#include "tests/unit/node/bench.h"

static struct csi_stats_reply reply;

static int stats(struct error *err)
{
    const struct csi_stats_request req = { .volume_id = b.id_text,
                                           .volume_path = b.target,
                                           .staging_target_path = "" };

    reply = (struct csi_stats_reply){ .n = 0 };
    return node_get_volume_stats(&b.node, &b.call, &req, &reply, err);
}

static void test_file_system(void **state UNUSED)
{
    NEEDS_RIG();
    bench_make(false);
    refused(stats, ERR_NOT_FOUND, "isn't mounted at");
    assert_works(publish(&err));
    assert_works(stats(&err));
    assert_int_equal(reply.n, 2);
    assert_int_equal(reply.usage[0].unit, 1);
    assert_true(reply.usage[0].total > 0);
    assert_int_equal(reply.usage[0].used + reply.usage[0].available, reply.usage[0].total);
    assert_int_equal(reply.usage[1].unit, 2);
}

static void test_block(void **state UNUSED)
{
    NEEDS_RIG();
    bench_make(true);
    assert_works(publish(&err));
    assert_works(stats(&err));
    assert_int_equal(reply.n, 1);
    assert_int_equal(reply.usage[0].unit, 1);
    assert_int_equal(reply.usage[0].total, WANT_SIZE);
}

/* kubelet asks each minute, and a pool on a dead server would keep each call for ever: it isn't
 * looked at. */
static void test_without_the_pool(void **state UNUSED)
{
    for (int block = 0; block < 2; block++) {
        NEEDS_RIG();
        assert_int_equal(rig_clear(NULL), 0);
        bench_make(block != 0);
        assert_works(publish(&err));
        assert_int_equal(rename(b.pool.path, below(b.t.path, "elsewhere")), 0);
        assert_works(stats(&err));
        assert_true(reply.usage[0].total > 0);
        assert_works(unpublish(&err));
        refused(stats, ERR_NOT_FOUND, "isn't mounted at");
        assert_int_equal(bench_clear(NULL), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_file_system),
        BENCH_TEST(test_block),
        BENCH_TEST(test_without_the_pool),
    };

    rig_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

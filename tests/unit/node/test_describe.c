/* SPDX-License-Identifier: Apache-2.0 */
/* DescribeVolumes: what the kernel says of an open volume. Needs root (rig.h). */
#include "common/base.h"
#include "tests/unit/node/bench.h"

#include "common/arena.h"

/* The one volume, open and mounted at so many places. */
static struct csi_description described(struct arena *a, size_t mounts)
{
    const struct csi_describe_request req = {
        .name = "", .name_prefix = "", .starting_token = "", .pool = ""
    };
    struct csi_call call = { .arena = a, .deadline = DEADLINE_NEVER };
    struct csi_describe_reply reply;

    assert_works(node_describe_volumes(&b.node, &call, &req, &reply, &err));
    assert_int_equal(reply.n, 1);
    assert_string_equal(reply.items[0].volume_id, b.id_text);
    assert_true(reply.items[0].open);
    assert_int_equal(reply.items[0].mounted_at.n, mounts);
    return reply.items[0];
}

/* gRPC's strings are UTF-8: one strange path would hide all volumes. */
static void test_strange_path(void **state UNUSED)
{
    struct arena *a = arena_new(MIB(4));
    struct csi_description v;

    NEEDS_RIG();
    bench_make(false);
    v = described(a, 1);
    assert_string_equal(v.mounted_at.items[0], b.staging);
    b.req.target_path = below(b.t.path, "\xff-\xc3\xa9");
    assert_works(publish(&err));
    v = described(a, 2);
    assert_string_equal(v.mounted_at.items[1], below(b.t.path, "?-\xc3\xa9"));
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = { BENCH_TEST(test_strange_path) };

    rig_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

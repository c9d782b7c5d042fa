/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "tests/unit/controller/fixture.h"

static int capacity(struct rig *r, const struct csi_capacity_request *req,
                    struct csi_capacity_reply *ret)
{
    r->err = (struct error)ERROR_INIT;
    return controller_capacity(&r->c, &r->call, req, ret, &r->err);
}

/* Another process may write to the same file system meanwhile. */
static bool is_about(uint64_t a, uint64_t b)
{
    return a > b ? a - b < GIB(2) + b / 10 : b - a < GIB(2) + a / 10;
}

static void test_pools(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_capacity_request req = { .has_topology = false };
    struct csi_capacity_reply all, one;
    const struct csi_pair pool[] = { { "pool", "b" } }, unknown[] = { { "speed", "high" } },
                          raw[] = { { "csi.storage.k8s.io/fstype", "xfs" },
                                    { "csi.storage.k8s.io/node-publish-secret-name", "s" },
                                    { "pool", "b" } };

    rig_make(&r, 2);
    /* a StorageClass has no tenant: the claim's namespace would be it */
    r.f.config.default_tenant[0] = '\0';
    assert_ok(capacity(&r, &req, &all), r.err);
    req.parameters = (struct csi_map){ .items = pool, .n = 1 };
    assert_ok(capacity(&r, &req, &one), r.err);
    assert_true(one.available > 0);
    assert_true(is_about(all.available, 2 * one.available));
    assert_int_equal(one.maximum_volume_size, one.available - GEOMETRY_DATA_OFFSET);
    assert_int_equal(one.minimum_volume_size, GEOMETRY_SIZE_MIN);
    assert_true(is_about(all.maximum_volume_size, one.maximum_volume_size));
    req.parameters = (struct csi_map){ .items = raw, .n = 3 }; /* as csi-provisioner 6 sends them */
    assert_ok(capacity(&r, &req, &one), r.err);
    assert_true(one.available > 0 && is_about(all.available, 2 * one.available));
    req.parameters = (struct csi_map){ .items = unknown, .n = 1 };
    assert_fails(capacity(&r, &req, &one), r.err, ERR_INVALID);
}

static void test_nothing_for_others(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_capability capability = rig_mount();
    const struct csi_pair here = { "topology.csi.coffer.dev/node", "n1" },
                          there = { "topology.csi.coffer.dev/node", "n2" },
                          foreign = { "topology.example.org/zone", "z" };
    struct csi_capacity_request req = { .has_topology = true,
                                        .topology = { .segments = { .items = &there, .n = 1 } } };
    struct csi_capacity_reply reply;

    rig_make(&r, 1);
    assert_ok(capacity(&r, &req, &reply), r.err);
    assert_int_equal(reply.available, 0);
    assert_int_equal(reply.maximum_volume_size, 0);
    req.topology.segments.items = &foreign;
    assert_ok(capacity(&r, &req, &reply), r.err);
    assert_int_equal(reply.available, 0);
    req.topology.segments.items = &here;
    assert_ok(capacity(&r, &req, &reply), r.err);
    assert_true(reply.available > 0);
    assert_int_equal(reply.minimum_volume_size, GEOMETRY_SIZE_MIN);
    req.capabilities = (struct csi_capabilities){ .items = &capability, .n = 1 };
    capability.fs_type = "xfs";
    assert_ok(capacity(&r, &req, &reply), r.err);
    assert_int_equal(reply.minimum_volume_size, MIB(300));
    capability.fs_type = "";
    req.capabilities.n = 0;
    req.capabilities = (struct csi_capabilities){ .items = &capability, .n = 1 };
    assert_ok(capacity(&r, &req, &reply), r.err);
    assert_true(reply.available > 0);
    capability.mode = CSI_MULTI_NODE_SINGLE_WRITER;
    assert_ok(capacity(&r, &req, &reply), r.err);
    assert_int_equal(reply.available, 0);
}

static void test_pool_away(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_capacity_request req = { .has_topology = false };
    struct csi_capacity_reply reply;

    rig_make(&r, 1);
    assert_int_equal(rename(tmpdir_path(&r.f.dir, "a"), tmpdir_path(&r.f.dir, "away")), 0);
    assert_fails(capacity(&r, &req, &reply), r.err, ERR_UNAVAILABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pools),
        cmocka_unit_test(test_nothing_for_others),
        cmocka_unit_test(test_pool_away),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

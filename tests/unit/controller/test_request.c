/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "tests/unit/controller/fixture.h"

static void test_sizes(void **state UNUSED)
{
    static const struct {
        bool has_range;
        uint64_t required, limit, want;
    } good[] = {
        { false, 0, 0, GIB(1) },
        { false, 7, 3, GIB(1) }, /* not looked at */
        { true, 0, 0, GIB(1) },
        { true, 0, GIB(2), GIB(1) },
        { true, 0, MIB(500) + 7, MIB(500) },
        { true, 0, MIB(16), MIB(16) },
        { true, 1, 0, MIB(16) },
        { true, MIB(3), MIB(16), MIB(16) },
        { true, GIB(1), GIB(1), GIB(1) },
        { true, GIB(1) + 1, 0, GIB(1) + MIB(1) },
        { true, GIB(1) - 1, GIB(1), GIB(1) },
        { true, GEOMETRY_SIZE_MAX, 0, GEOMETRY_SIZE_MAX },
    };

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        struct size_range range;
        struct error err = ERROR_INIT;

        assert_ok(
            request_size("ext4", good[i].has_range, good[i].required, good[i].limit, &range, &err),
            err);
        assert_int_equal(range.want, good[i].want);
        assert_true(request_size_fits(&range, range.want));
    }
}

static void test_bad_sizes(void **state UNUSED)
{
    static const struct {
        uint64_t required, limit;
    } bad[] = {
        { GIB(2), GIB(1) },           { GIB(1) + 1, GIB(1) + 2 },
        { 1, MIB(16) - 1 },           { 0, 1 },
        { GEOMETRY_SIZE_MAX + 1, 0 }, { UINT64_MAX, 0 },
        { UINT64_MAX, UINT64_MAX },   { INT64_MAX, 0 },
    };

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct size_range range = { .want = 1 };
        struct error err = ERROR_INIT;

        assert_fails(request_size("ext4", true, bad[i].required, bad[i].limit, &range, &err), err,
                     ERR_OUT_OF_RANGE);
        assert_int_equal(range.want, 1);
    }
}

static void test_sizes_of_file_systems(void **state UNUSED)
{
    static const struct {
        const char *fs;
        uint64_t required, limit, want; /* want 0: refused */
    } cases[] = {
        { "xfs", 0, 0, GIB(1) },          { "btrfs", 0, 0, GIB(1) },
        { "xfs", MIB(300), 0, MIB(300) }, { "xfs", MIB(300) - 1, 0, MIB(300) },
        { "xfs", 0, MIB(300), MIB(300) }, { "btrfs", MIB(256), MIB(256), MIB(256) },
        { "none", 1, 0, MIB(16) },        { "xfs", MIB(299), 0, 0 },
        { "xfs", 0, MIB(300) - 1, 0 },    { "btrfs", 1, 0, 0 },
        { "btrfs", MIB(255), GIB(1), 0 },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct size_range range = { .want = 1 };
        struct error err = ERROR_INIT;
        uint64_t required = cases[i].required, limit = cases[i].limit;

        if (cases[i].want == 0)
            assert_fails(request_size(cases[i].fs, true, required, limit, &range, &err), err,
                         ERR_OUT_OF_RANGE);
        else
            assert_ok(request_size(cases[i].fs, true, required, limit, &range, &err), err);
        assert_int_equal(range.want, cases[i].want == 0 ? 1 : cases[i].want);
    }
}

/* The sentence names the minimum, and which of the two numbers it was. */
static void test_minimum_is_named(void **state UNUSED)
{
    struct size_range range;
    struct error err = ERROR_INIT;

    assert_fails(request_size("xfs", true, MIB(64), 0, &range, &err), err, ERR_OUT_OF_RANGE);
    assert_string_equal(err.msg, "capacity_range: required_bytes 67108864 is less than the "
                                 "smallest xfs volume, 314572800 (300 MiB)");
    assert_fails(request_size("btrfs", true, 0, MIB(64), &range, &err), err, ERR_OUT_OF_RANGE);
    assert_string_equal(err.msg, "capacity_range: limit_bytes 67108864 is less than the smallest "
                                 "btrfs volume, 268435456 (256 MiB)");
}

static void test_one_file_system(void **state UNUSED)
{
    struct csi_capability items[] = { rig_mount(), rig_mount(), rig_mount() };
    const struct csi_capabilities caps = { .items = items, .n = ARRAY_SIZE(items) };
    struct error err = ERROR_INIT;
    const char *fs = NULL;

    assert_ok(request_capabilities(&caps, &fs, &err), err);
    assert_string_equal(fs, "");
    items[1].fs_type = "xfs";
    assert_ok(request_capabilities(&caps, &fs, &err), err);
    assert_string_equal(fs, "xfs");
    items[2].fs_type = "btrfs";
    assert_fails(request_capabilities(&caps, &fs, &err), err, ERR_INVALID);
    assert_non_null(strstr(err.msg, "xfs and btrfs"));
    items[0] = items[1] = items[2] = rig_block();
    assert_ok(request_capabilities(&caps, &fs, &err), err);
    assert_string_equal(fs, "none");
}

static void test_identity(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_plugin_info info;
    struct csi_plugin_caps caps;
    struct csi_node_info node;
    bool ready = false;

    rig_make(&r, 1);
    assert_ok(controller_identity_ops.get_plugin_info(&r.c, &r.call, &info, &r.err), r.err);
    assert_string_equal(info.name, "csi.coffer.dev");
    assert_string_equal(info.vendor_version, COFFER_VERSION);
    assert_ok(controller_identity_ops.get_plugin_capabilities(&r.c, &r.call, &caps, &r.err), r.err);
    assert_true(caps.controller_service && caps.accessibility_constraints && caps.online_expansion);
    /* ready, whatever is away */
    keyd.fails = ERR_UNAVAILABLE;
    assert_int_equal(rename(tmpdir_path(&r.f.dir, "a"), tmpdir_path(&r.f.dir, "away")), 0);
    assert_ok(controller_identity_ops.probe(&r.c, &r.call, &ready, &r.err), r.err);
    assert_true(ready);
    assert_ok(controller_node_ops.get_info(&r.c, &r.call, &node, &r.err), r.err);
    assert_string_equal(node.node_id, "n1");
    assert_string_equal(node.topology.segments.items[0].key, "topology.csi.coffer.dev/node");
    assert_null(controller_node_ops.stage_volume);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_minimum_is_named),
        cmocka_unit_test(test_sizes_of_file_systems),
        cmocka_unit_test(test_one_file_system),
        cmocka_unit_test(test_bad_sizes),
        cmocka_unit_test(test_identity),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

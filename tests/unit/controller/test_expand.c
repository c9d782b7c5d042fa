/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "tests/unit/controller/fixture.h"

#define SIZE MIB(20)

static int expand(struct rig *r, const char *id, uint64_t required, uint64_t limit, uint64_t *ret)
{
    struct csi_expand_request req = { .volume_id = id,
                                      .volume_path = "",
                                      .staging_target_path = "",
                                      .has_range = true,
                                      .required_bytes = required,
                                      .limit_bytes = limit };
    struct csi_controller_expand_reply reply = { 0, false };

    r->err = (struct error)ERROR_INIT;
    if (controller_expand(&r->c, &r->call, &req, &reply, &r->err) < 0)
        return -1;
    assert_true(reply.node_expansion_required);
    *ret = reply.capacity_bytes;
    return 0;
}

static uint64_t image_bytes(struct rig *r, const char *id)
{
    struct volume_id parsed;
    struct stat st;

    assert_ok(volume_id_parse(id, &parsed, &r->err), r->err);
    assert_int_equal(stat(place_path(&r->f, &parsed, "image"), &st), 0);
    return (uint64_t)st.st_size;
}

static void test_expand(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;
    uint64_t size = 0;

    rig_make(&r, 1);
    v = rig_volume(&r, "pvc-1", SIZE);
    assert_ok(expand(&r, v.volume_id, MIB(40), 0, &size), r.err);
    assert_int_equal(size, MIB(40));
    assert_int_equal(rig_record(&r, v.volume_id).size, MIB(40));
    assert_int_equal(image_bytes(&r, v.volume_id), MIB(40) + GEOMETRY_DATA_OFFSET);
    assert_ok(expand(&r, v.volume_id, MIB(40), MIB(40), &size), r.err);
    assert_ok(expand(&r, v.volume_id, MIB(30), 0, &size), r.err);
    assert_int_equal(size, MIB(40));
    assert_ok(expand(&r, v.volume_id, 0, MIB(50), &size), r.err);
    assert_int_equal(size, MIB(40));
    assert_ok(expand(&r, v.volume_id, MIB(40) + 1, 0, &size), r.err);
    assert_int_equal(size, MIB(41));
    assert_int_equal(atomic_load(&r.c.counters.expanded), 2);
}

static void test_ranges(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;
    struct csi_controller_expand_reply reply;
    struct csi_expand_request none;
    uint64_t size = 0;

    rig_make(&r, 1);
    v = rig_volume(&r, "pvc-1", SIZE);
    none = (struct csi_expand_request){ .volume_id = v.volume_id };
    assert_fails(controller_expand(&r.c, &r.call, &none, &reply, &r.err), r.err, ERR_INVALID);
    assert_fails(expand(&r, v.volume_id, MIB(40), MIB(30), &size), r.err, ERR_OUT_OF_RANGE);
    assert_fails(expand(&r, v.volume_id, MIB(40) + 1, MIB(40) + 2, &size), r.err, ERR_OUT_OF_RANGE);
    assert_fails(expand(&r, v.volume_id, 0, MIB(18), &size), r.err, ERR_OUT_OF_RANGE);
    assert_fails(expand(&r, v.volume_id, GEOMETRY_SIZE_MAX + 1, 0, &size), r.err, ERR_OUT_OF_RANGE);
    assert_int_equal(image_bytes(&r, v.volume_id), SIZE + GEOMETRY_DATA_OFFSET);
}

static void test_full(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;
    uint64_t size = 0;

    rig_make(&r, 1);
    v = rig_volume(&r, "pvc-1", SIZE);
    assert_fails(expand(&r, v.volume_id, GEOMETRY_SIZE_MAX, 0, &size), r.err, ERR_EXHAUSTED);
    assert_int_equal(rig_record(&r, v.volume_id).size, SIZE);
    assert_int_equal(image_bytes(&r, v.volume_id), SIZE + GEOMETRY_DATA_OFFSET);
}

static void test_absent(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;
    uint64_t size = 0;

    rig_make(&r, 1);
    assert_fails(expand(&r, "fake-vol-id", MIB(40), 0, &size), r.err, ERR_NOT_FOUND);
    assert_fails(expand(&r, rig_id(&r, 0, "never"), MIB(40), 0, &size), r.err, ERR_NOT_FOUND);
    v = rig_volume(&r, "pvc-1", SIZE);
    rig_set_state(&r, v.volume_id, RECORD_ERASED);
    assert_fails(expand(&r, v.volume_id, MIB(40), 0, &size), r.err, ERR_NOT_FOUND);
    keyd.fails = ERR_UNAVAILABLE;
    assert_fails(rig_create(&r, "pvc-2", SIZE, &v), r.err, ERR_UNAVAILABLE);
    assert_fails(expand(&r, rig_id(&r, 0, "pvc-2"), MIB(40), 0, &size), r.err, ERR_NOT_FOUND);
}

static void test_on_the_node(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;
    struct csi_controller_caps caps;
    uint64_t size = 0;

    rig_make(&r, 1);
    v = rig_volume(&r, "pvc-1", SIZE);
    r.c.expand = false;
    assert_ok(controller_ops.get_capabilities(&r.c, &r.call, &caps, &r.err), r.err);
    assert_false(caps.expand);
    assert_fails(expand(&r, v.volume_id, MIB(40), 0, &size), r.err, ERR_UNIMPLEMENTED);
}

#ifdef COFFER_FAULT
static void make_one(void *ctx)
{
    (void)rig_volume(ctx, "pvc-1", SIZE);
}

static int expand_in_child(void *ctx)
{
    uint64_t size;

    return expand(ctx, rig_id(ctx, 0, "pvc-1"), MIB(40), 0, &size);
}

/* At no point does the record promise more than is reserved. */
static void reaches_the_size(void *ctx)
{
    struct rig *r = ctx;
    char *id = rig_id(r, 0, "pvc-1");
    uint64_t size = 0;

    assert_true(image_bytes(r, id) >= rig_record(r, id).size + GEOMETRY_DATA_OFFSET);
    assert_ok(expand(r, id, MIB(40), 0, &size), r->err);
    assert_int_equal(size, MIB(40));
    assert_int_equal(image_bytes(r, id), MIB(40) + GEOMETRY_DATA_OFFSET);
    assert_ok(rig_delete(r, id), r->err);
}

static void test_kill_sweep(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;

    rig_make(&r, 1);
    assert_true(sweep(make_one, expand_in_child, reaches_the_size, &r) >= 5);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expand),      cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_full),        cmocka_unit_test(test_absent),
        cmocka_unit_test(test_on_the_node),
#ifdef COFFER_FAULT
        cmocka_unit_test(test_kill_sweep),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

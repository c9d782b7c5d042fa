/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "tests/unit/controller/fixture.h"

#define SIZE MIB(20)

static int create(struct rig *r, const struct csi_create_volume_request *req)
{
    struct csi_volume v;

    r->err = (struct error)ERROR_INIT;
    return controller_create(&r->c, &r->call, req, &v, &r->err);
}

static void test_create(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;
    struct record record;
    uint64_t bytes = 0;
    AUTO_VOLUME struct volume volume = VOLUME_INIT;
    struct volume_id id;

    rig_make(&r, 1);
    id = fixture_id(&r.f, 0, "pvc-1");
    v = rig_volume(&r, "pvc-1", SIZE);
    assert_int_equal(v.capacity_bytes, SIZE);
    assert_string_equal(v.volume_id, rig_id(&r, 0, "pvc-1"));
    record = rig_record(&r, v.volume_id);
    assert_int_equal(record.state, RECORD_NEW);
    assert_int_equal(record.gen, 2);
    assert_string_equal(record.name, "pvc-1");
    assert_string_equal(record.fs, "ext4");
    assert_string_equal(record.tenant, "lab");
    assert_string_equal(record.kms, "k1");
    assert_string_equal(record.key.kind, "file");
    assert_string_equal(record.key.ciphertext, "wrapped-1");
    /* the key is bound to what the record and the reply say */
    assert_string_equal(keyd.uuid, record.uuid);
    assert_string_equal(keyd.volume_id, v.volume_id);
    assert_string_equal(keyd.tenant, "lab");
    assert_string_equal(keyd.kms, "k1");
    assert_int_equal(v.volume_context.n, 4);
    assert_string_equal(csi_map_get(&v.volume_context, "uuid"), record.uuid);
    assert_string_equal(csi_map_get(&v.volume_context, "tenant"), "lab");
    assert_string_equal(csi_map_get(&v.volume_context, "kms"), "k1");
    assert_string_equal(csi_map_get(&v.volume_context, "keySource"), "vault");
    for (size_t i = 1; i < v.volume_context.n; i++)
        assert_true(strcmp(v.volume_context.items[i - 1].key, v.volume_context.items[i].key) < 0);
    assert_int_equal(v.accessible_topology.n, 1);
    assert_string_equal(v.accessible_topology.items[0].segments.items[0].key,
                        "topology.csi.coffer.dev/node");
    assert_string_equal(v.accessible_topology.items[0].segments.items[0].value, "n1");
    assert_ok(volume_open(r.f.set->pools[0], &id, false, &volume, &r.err), r.err);
    assert_ok(volume.pool->ops->allocated(&volume, &bytes, &r.err), r.err);
    assert_int_equal(bytes, SIZE + GEOMETRY_DATA_OFFSET);
}

static void test_file_systems(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_capability mount = rig_mount();
    struct csi_create_volume_request req;

    rig_make(&r, 1);
    req = rig_request("pvc-x", "a", MIB(300));
    req.capabilities.items = &mount;
    mount.fs_type = "xfs";
    assert_ok(create(&r, &req), r.err);
    assert_string_equal(rig_record(&r, rig_id(&r, 0, "pvc-x")).fs, "xfs");
    assert_ok(create(&r, &req), r.err);
    mount.fs_type = "btrfs";
    assert_fails(create(&r, &req), r.err, ERR_EXISTS);
    req.name = "pvc-y";
    req.required_bytes = MIB(64);
    assert_fails(create(&r, &req), r.err, ERR_OUT_OF_RANGE);
    assert_int_equal(keyd.minted, 1);
}

/* A repeated call answers the same; the key is never touched again. */
static void test_repeat(void **state UNUSED)
{
    static const enum record_state states[] = { RECORD_NEW, RECORD_FORMATTING };
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume first, again;

    rig_make(&r, 1);
    first = rig_volume(&r, "pvc-1", SIZE);
    for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
        rig_set_state(&r, first.volume_id, states[i]);
        again = rig_volume(&r, "pvc-1", SIZE);
        assert_string_equal(again.volume_id, first.volume_id);
        assert_int_equal(again.capacity_bytes, first.capacity_bytes);
        assert_string_equal(csi_map_get(&again.volume_context, "uuid"),
                            csi_map_get(&first.volume_context, "uuid"));
    }
    assert_int_equal(keyd.minted, 1);
    assert_string_equal(rig_record(&r, first.volume_id).key.ciphertext, "wrapped-1");
    assert_int_equal(atomic_load(&r.c.counters.create_repeated), 2);
}

static void test_other_spec_is_refused(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_create_volume_request req = rig_request("pvc-1", "a", SIZE);
    struct csi_capability block = rig_block();
    const struct csi_pair kms[] = { { "kms", "k2" }, { "pool", "a" } },
                          tenant[] = { { "pool", "a" }, { "tenant", "team-b" } };

    rig_make(&r, 2);
    assert_ok(create(&r, &req), r.err);
    /* compatible sizes */
    req.required_bytes = MIB(16);
    assert_ok(create(&r, &req), r.err);
    req.limit_bytes = SIZE;
    assert_ok(create(&r, &req), r.err);
    req.has_range = false;
    assert_ok(create(&r, &req), r.err);
    /* and not */
    req = rig_request("pvc-1", "a", SIZE + 1);
    assert_fails(create(&r, &req), r.err, ERR_EXISTS);
    req = rig_request("pvc-1", "a", MIB(16));
    req.limit_bytes = SIZE - 1;
    assert_fails(create(&r, &req), r.err, ERR_EXISTS);
    req = rig_request("pvc-1", "a", SIZE);
    req.capabilities.items = &block;
    assert_fails(create(&r, &req), r.err, ERR_EXISTS);
    req = rig_request("pvc-1", "a", SIZE);
    req.parameters = (struct csi_map){ .items = kms, .n = 2 };
    assert_fails(create(&r, &req), r.err, ERR_EXISTS);
    req.parameters = (struct csi_map){ .items = tenant, .n = 2 };
    assert_fails(create(&r, &req), r.err, ERR_EXISTS);
    req = rig_request("pvc-1", "b", SIZE);
    assert_fails(create(&r, &req), r.err, ERR_EXISTS);
    assert_non_null(strstr(r.err.msg, "pool 'a'"));
    assert_true(rig_is_gone(&r, rig_id(&r, 1, "pvc-1")));
    assert_int_equal(keyd.minted, 1);
}

/* Whether another pool has the name must be known, not guessed. */
static void test_other_pool_away(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_create_volume_request req = rig_request("pvc-1", "a", SIZE);

    rig_make(&r, 2);
    assert_int_equal(rename(tmpdir_path(&r.f.dir, "b"), tmpdir_path(&r.f.dir, "away")), 0);
    assert_fails(create(&r, &req), r.err, ERR_UNAVAILABLE);
    assert_non_null(strstr(r.err.msg, "pool 'b'"));
    assert_int_equal(rename(tmpdir_path(&r.f.dir, "away"), tmpdir_path(&r.f.dir, "b")), 0);
    assert_ok(create(&r, &req), r.err);
}

static void test_bad_requests_make_nothing(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_create_volume_request req;
    struct csi_capability mixed[2] = { rig_mount(), rig_block() }, bad;
    const struct csi_pair unknown[] = { { "pool", "a" }, { "speed", "high" } };
    const struct csi_pair mutable[] = { { "XXX_FakeKey", "1" } };

    rig_make(&r, 1);
    req = rig_request("pvc-1", "a", SIZE);
    req.parameters = (struct csi_map){ .items = unknown, .n = 2 };
    assert_fails(create(&r, &req), r.err, ERR_INVALID);
    assert_non_null(strstr(r.err.msg, "speed"));
    req = rig_request("pvc-1", "nowhere", SIZE);
    assert_fails(create(&r, &req), r.err, ERR_INVALID);
    req = rig_request("pvc-1", "a", SIZE);
    req.mutable_parameters = (struct csi_map){ .items = mutable, .n = 1 };
    assert_fails(create(&r, &req), r.err, ERR_INVALID);
    req = rig_request("pvc-1", "a", SIZE);
    req.has_source = true;
    assert_fails(create(&r, &req), r.err, ERR_INVALID);
    req = rig_request("pvc-1", "a", SIZE);
    req.capabilities = (struct csi_capabilities){ .items = mixed, .n = 2 };
    assert_fails(create(&r, &req), r.err, ERR_INVALID);
    bad = rig_mount();
    bad.mode = CSI_MULTI_NODE_MULTI_WRITER;
    req.capabilities = (struct csi_capabilities){ .items = &bad, .n = 1 };
    assert_fails(create(&r, &req), r.err, ERR_INVALID);
    req = rig_request("pvc-1", "a", SIZE);
    req.limit_bytes = MIB(1);
    assert_fails(create(&r, &req), r.err, ERR_OUT_OF_RANGE);
    assert_false(exists(tmpdir_path(&r.f.dir, "a/volumes")));
    assert_int_equal(keyd.minted, 0);
}

static void test_topology(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_create_volume_request req = rig_request("pvc-1", "a", SIZE);
    const struct csi_pair here = { "Topology.csi.coffer.dev/NODE", "n1" },
                          there = { "topology.csi.coffer.dev/node", "n2" };
    const struct csi_topology both[] = { { { &there, 1 } }, { { &here, 1 } } };

    rig_make(&r, 1);
    req.has_topology = true;
    req.requisite = (struct csi_topologies){ .items = both, .n = 1 };
    assert_fails(create(&r, &req), r.err, ERR_EXHAUSTED);
    assert_true(rig_is_gone(&r, rig_id(&r, 0, "pvc-1")));
    req.requisite.n = 2;
    assert_ok(create(&r, &req), r.err);
}

/* An outage: the caller repeats here, so what is reserved stays, with its uuid. */
static void test_keyd_outage(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;
    struct record before, after;

    rig_make(&r, 1);
    keyd.fails = ERR_UNAVAILABLE;
    assert_fails(rig_create(&r, "pvc-1", SIZE, &v), r.err, ERR_UNAVAILABLE);
    before = rig_record(&r, rig_id(&r, 0, "pvc-1"));
    assert_int_equal(before.state, RECORD_MINTING);
    assert_string_equal(before.key.ciphertext, "");
    assert_fails(rig_create(&r, "pvc-1", SIZE, &v), r.err, ERR_UNAVAILABLE);
    keyd.fails = ERR_OK;
    v = rig_volume(&r, "pvc-1", SIZE);
    after = rig_record(&r, v.volume_id);
    assert_string_equal(before.uuid, after.uuid);
    assert_int_equal(after.state, RECORD_NEW);
}

/* What never came to be isn't "the volume that exists": a call with other parameters, or for
 * another pool, takes its place and leaves nothing of it. */
static void test_unborn_makes_way(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_create_volume_request req;
    struct csi_volume v;
    struct record before;

    rig_make(&r, 2);
    keyd.fails = ERR_UNAVAILABLE;
    assert_fails(rig_create(&r, "pvc-1", SIZE, &v), r.err, ERR_UNAVAILABLE);
    before = rig_record(&r, rig_id(&r, 0, "pvc-1"));
    keyd.fails = ERR_OK;
    v = rig_volume(&r, "pvc-1", MIB(32));
    assert_int_equal(v.capacity_bytes, MIB(32));
    assert_string_not_equal(rig_record(&r, v.volume_id).uuid, before.uuid);
    req = rig_request("pvc-1", "b", MIB(32));
    assert_fails(create(&r, &req), r.err, ERR_EXISTS);
    assert_ok(rig_delete(&r, v.volume_id), r.err);

    keyd.fails = ERR_UNAVAILABLE;
    assert_fails(rig_create(&r, "pvc-1", SIZE, &v), r.err, ERR_UNAVAILABLE);
    keyd.fails = ERR_OK;
    req = rig_request("pvc-1", "b", MIB(32));
    assert_ok(create(&r, &req), r.err);
    assert_true(rig_is_gone(&r, rig_id(&r, 0, "pvc-1")));
}

/* A final answer: no DeleteVolume follows, so nothing may stay, not even what an earlier call left.
 */
static void test_final_failure_rolls_back(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;

    rig_make(&r, 1);
    keyd.fails = ERR_PERMISSION;
    assert_fails(rig_create(&r, "pvc-1", SIZE, &v), r.err, ERR_PERMISSION);
    assert_true(rig_is_gone(&r, rig_id(&r, 0, "pvc-1")));
    keyd.fails = ERR_UNAVAILABLE;
    assert_fails(rig_create(&r, "pvc-1", SIZE, &v), r.err, ERR_UNAVAILABLE);
    assert_false(rig_is_gone(&r, rig_id(&r, 0, "pvc-1")));
    keyd.fails = ERR_PRECONDITION;
    assert_fails(rig_create(&r, "pvc-1", SIZE, &v), r.err, ERR_PRECONDITION);
    assert_true(rig_is_gone(&r, rig_id(&r, 0, "pvc-1")));
    assert_int_equal(atomic_load(&r.c.counters.create_rolled_back), 2);
}

static void test_full_pool_rolls_back(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;

    rig_make(&r, 1);
    assert_fails(rig_create(&r, "pvc-1", GEOMETRY_SIZE_MAX, &v), r.err, ERR_EXHAUSTED);
    assert_non_null(strstr(r.err.msg, "pool 'a' is full"));
    assert_true(rig_is_gone(&r, rig_id(&r, 0, "pvc-1")));
    assert_int_equal(atomic_load(&r.c.counters.pool_full), 1);
}

static void test_erased_makes_room(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v, again;

    rig_make(&r, 1);
    v = rig_volume(&r, "pvc-1", SIZE);
    rig_set_state(&r, v.volume_id, RECORD_ERASED);
    again = rig_volume(&r, "pvc-1", MIB(32)); /* another size: it is another volume */
    assert_string_equal(again.volume_id, v.volume_id);
    assert_int_equal(again.capacity_bytes, MIB(32));
    assert_string_not_equal(csi_map_get(&again.volume_context, "uuid"),
                            csi_map_get(&v.volume_context, "uuid"));
    assert_int_equal(keyd.minted, 2);
}

/* An erased volume whose mapping is still open is in the way. */
static void test_erased_in_use(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v, again;

    rig_make(&r, 1);
    v = rig_volume(&r, "pvc-1", SIZE);
    rig_open_mapping(&r, csi_map_get(&v.volume_context, "uuid"));
    rig_set_state(&r, v.volume_id, RECORD_ERASED);
    assert_fails(rig_create(&r, "pvc-1", SIZE, &again), r.err, ERR_PRECONDITION);
    assert_int_equal(rig_record(&r, v.volume_id).state, RECORD_ERASED);
}

static void test_damaged_record(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;
    struct volume_id id;

    rig_make(&r, 1);
    (void)rig_volume(&r, "pvc-1", SIZE);
    id = fixture_id(&r.f, 0, "pvc-1");
    assert_int_equal(truncate(place_path(&r.f, &id, "record.json"), 10), 0);
    assert_fails(rig_create(&r, "pvc-1", SIZE, &v), r.err, ERR_DATA_LOSS);
    assert_int_equal(unlink(place_path(&r.f, &id, "record.json")), 0);
    assert_fails(rig_create(&r, "pvc-1", SIZE, &v), r.err, ERR_DATA_LOSS);
    assert_true(exists(place_path(&r.f, &id, "image")));
    assert_int_equal(keyd.minted, 1);
}

static void test_busy(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    AUTO_VOLUME struct volume held = VOLUME_INIT;
    struct keylock_hold *hold = NULL;
    struct csi_volume v;
    struct volume_id id;

    rig_make(&r, 1);
    id = fixture_id(&r.f, 0, "pvc-1");
    assert_ok(keylock_try(r.c.locks, id.hash, &hold, &r.err), r.err);
    assert_fails(rig_create(&r, "pvc-1", SIZE, &v), r.err, ERR_ABORTED);
    assert_non_null(strstr(r.err.msg, rig_id(&r, 0, "pvc-1")));
    keylock_hold_free(hold);
    r.err = (struct error)ERROR_INIT;
    assert_ok(volume_open(r.f.set->pools[0], &id, true, &held, &r.err), r.err);
    assert_fails(rig_create(&r, "pvc-1", SIZE, &v), r.err, ERR_ABORTED);
    volume_close(&held);
    assert_ok(rig_create(&r, "pvc-1", SIZE, &v), r.err);
}

static void test_names(void **state UNUSED)
{
    static const char *const names[] = { "../../etc", "a/b", "ünïcödé \xf0\x9f\x94\x92", " " };
    AUTO_RIG struct rig r = RIG_INIT;
    char name[RECORD_NAME_MAX + 2];
    struct csi_volume v;

    rig_make(&r, 1);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        v = rig_volume(&r, names[i], SIZE);
        assert_string_equal(rig_record(&r, v.volume_id).name, names[i]);
        assert_int_equal(strlen(v.volume_id), strlen("a.") + 8 + 1 + 32);
    }
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_fails(rig_create(&r, name, SIZE, &v), r.err, ERR_INVALID);
}

#ifdef COFFER_FAULT
static void nothing_before(void *ctx)
{
    (void)ctx;
}

static int create_in_child(void *ctx)
{
    struct csi_volume v;

    return rig_create(ctx, "pvc-1", SIZE, &v);
}

/* The same call again, until OK; one volume, one key, and then it goes without a trace. */
static void converges(void *ctx)
{
    struct rig *r = ctx;
    struct csi_volume v = rig_volume(r, "pvc-1", SIZE);
    struct record record = rig_record(r, v.volume_id);

    assert_int_equal(record.state, RECORD_NEW);
    assert_string_equal(csi_map_get(&v.volume_context, "uuid"), record.uuid);
    assert_memory_equal(record.key.ciphertext, "wrapped-", 8);
    assert_ok(rig_delete(r, v.volume_id), r->err);
    assert_true(rig_is_gone(r, v.volume_id));
}

static void test_kill_sweep(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;

    rig_make(&r, 1);
    assert_true(sweep(nothing_before, create_in_child, converges, &r) >= 8);
}

static void leave_erased(void *ctx)
{
    struct csi_volume v = rig_volume(ctx, "pvc-1", MIB(32));

    rig_set_state(ctx, v.volume_id, RECORD_ERASED);
}

static void test_kill_sweep_over_erased(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;

    rig_make(&r, 1);
    assert_true(sweep(leave_erased, create_in_child, converges, &r) >= 12);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create),
        cmocka_unit_test(test_file_systems),
        cmocka_unit_test(test_repeat),
        cmocka_unit_test(test_other_spec_is_refused),
        cmocka_unit_test(test_other_pool_away),
        cmocka_unit_test(test_bad_requests_make_nothing),
        cmocka_unit_test(test_topology),
        cmocka_unit_test(test_keyd_outage),
        cmocka_unit_test(test_unborn_makes_way),
        cmocka_unit_test(test_final_failure_rolls_back),
        cmocka_unit_test(test_full_pool_rolls_back),
        cmocka_unit_test(test_erased_makes_room),
        cmocka_unit_test(test_erased_in_use),
        cmocka_unit_test(test_damaged_record),
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_names),
#ifdef COFFER_FAULT
        cmocka_unit_test(test_kill_sweep),
        cmocka_unit_test(test_kill_sweep_over_erased),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "tests/unit/controller/fixture.h"

#define SIZE MIB(20)

static void test_delete(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v, other;

    rig_make(&r, 1);
    v = rig_volume(&r, "pvc-1", SIZE);
    other = rig_volume(&r, "pvc-2", SIZE);
    assert_ok(rig_delete(&r, v.volume_id), r.err);
    assert_true(rig_is_gone(&r, v.volume_id));
    assert_false(rig_is_gone(&r, other.volume_id));
    assert_ok(rig_delete(&r, v.volume_id), r.err);
    assert_int_equal(atomic_load(&r.c.counters.deleted), 1);
}

/* A key that the service keeps goes before the volume does, or nothing goes. */
static void test_kept_key(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;

    rig_make(&r, 1);
    keyd.kind = "kv";
    v = rig_volume(&r, "pvc-1", SIZE);
    keyd.destroy_fails = ERR_UNAVAILABLE;
    assert_fails(rig_delete(&r, v.volume_id), r.err, ERR_UNAVAILABLE);
    assert_false(rig_is_gone(&r, v.volume_id));
    keyd.destroy_fails = ERR_OK;
    assert_ok(rig_delete(&r, v.volume_id), r.err);
    assert_int_equal(keyd.destroyed, 1);
    assert_true(rig_is_gone(&r, v.volume_id));
}

/* A record that was made to say that there is nothing to destroy. */
static void test_forged_kind(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;

    rig_make(&r, 1);
    for (size_t i = 0; i < r.f.config.n_kms; i++)
        r.f.kms[i].kind = KMS_VAULT_KV;
    keyd.kind = "transit";
    struct csi_volume v = rig_volume(&r, "pvc-1", SIZE);
    assert_ok(rig_delete(&r, v.volume_id), r.err);
    assert_int_equal(keyd.destroyed, 1);
}

/* The wrapped key is all there is: no key service is asked. */
static void test_key_in_the_record(void **state UNUSED)
{
    static const char *const kinds[] = { "file", "transit" };
    AUTO_RIG struct rig r = RIG_INIT;

    rig_make(&r, 1);
    keyd.destroy_fails = ERR_UNAVAILABLE;
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        keyd.kind = kinds[i];
        struct csi_volume v = rig_volume(&r, "pvc-1", SIZE);
        assert_ok(rig_delete(&r, v.volume_id), r.err);
    }
    assert_int_equal(keyd.destroyed, 0);
}

static void test_absent_is_ok(void **state UNUSED)
{
    static const char *const ids[] = { "fake-vol-id", "", "../../etc/passwd", "a.b.c",
                                       "a.00000000.0000000000000000000000000000000" };
    AUTO_RIG struct rig r = RIG_INIT;

    rig_make(&r, 1);
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
        assert_ok(rig_delete(&r, ids[i]), r.err);
    assert_ok(rig_delete(&r, rig_id(&r, 0, "never")), r.err);
}

/* "Not here" is only an answer where one has looked. */
static void test_elsewhere_is_not_absent(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;
    char id[VOLUME_ID_MAX + 1];

    rig_make(&r, 1);
    v = rig_volume(&r, "pvc-1", SIZE);
    (void)snprintf(id, sizeof(id), "%s", v.volume_id);
    id[2] = id[2] == '0' ? '1' : '0';
    assert_fails(rig_delete(&r, id), r.err, ERR_PRECONDITION);
    (void)snprintf(id, sizeof(id), "%s", v.volume_id);
    id[0] = 'z';
    assert_fails(rig_delete(&r, id), r.err, ERR_PRECONDITION);
    assert_int_equal(rename(tmpdir_path(&r.f.dir, "a"), tmpdir_path(&r.f.dir, "away")), 0);
    assert_int_equal(mkdir(tmpdir_path(&r.f.dir, "a"), 0700), 0);
    assert_fails(rig_delete(&r, v.volume_id), r.err, ERR_UNAVAILABLE);
    assert_int_equal(rmdir(tmpdir_path(&r.f.dir, "a")), 0);
    assert_int_equal(rename(tmpdir_path(&r.f.dir, "away"), tmpdir_path(&r.f.dir, "a")), 0);
    assert_ok(rig_delete(&r, v.volume_id), r.err);
}

static void test_in_use(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v, other;

    rig_make(&r, 1);
    v = rig_volume(&r, "pvc-1", SIZE);
    other = rig_volume(&r, "pvc-2", SIZE);
    rig_open_mapping(&r, csi_map_get(&v.volume_context, "uuid"));
    assert_int_equal(mkdir(tmpdir_path(&r.f.dir, "sysfs/loop0"), 0700), 0);
    assert_fails(rig_delete(&r, v.volume_id), r.err, ERR_PRECONDITION);
    assert_non_null(strstr(r.err.msg, "dm-0"));
    assert_int_equal(rig_record(&r, v.volume_id).state, RECORD_NEW);
    assert_ok(rig_delete(&r, other.volume_id), r.err);
    assert_int_equal(unlink(tmpdir_path(&r.f.dir, "sysfs/dm-0/dm/uuid")), 0);
    assert_ok(rig_delete(&r, v.volume_id), r.err);
    assert_int_equal(atomic_load(&r.c.counters.delete_in_use), 1);
}

/* A failed look is not "not in use". */
static void test_use_can_not_be_seen(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;

    rig_make(&r, 1);
    v = rig_volume(&r, "pvc-1", SIZE);
    assert_int_equal(rmdir(tmpdir_path(&r.f.dir, "sysfs")), 0);
    assert_int_equal(rig_delete(&r, v.volume_id), -1);
    assert_int_equal(mkdir(tmpdir_path(&r.f.dir, "sysfs"), 0700), 0);
    assert_int_equal(mkdir(tmpdir_path(&r.f.dir, "sysfs/dm-1"), 0700), 0);
    assert_int_equal(mkdir(tmpdir_path(&r.f.dir, "sysfs/dm-1/dm"), 0700), 0);
    assert_int_equal(mkdir(tmpdir_path(&r.f.dir, "sysfs/dm-1/dm/uuid"), 0700), 0);
    assert_int_equal(rig_delete(&r, v.volume_id), -1);
    assert_int_equal(rig_record(&r, v.volume_id).state, RECORD_NEW);
    assert_int_equal(rmdir(tmpdir_path(&r.f.dir, "sysfs/dm-1/dm/uuid")), 0);
    assert_ok(rig_delete(&r, v.volume_id), r.err);
}

static void test_busy(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    AUTO_VOLUME struct volume held = VOLUME_INIT;
    struct csi_volume v;
    struct volume_id id;

    rig_make(&r, 1);
    v = rig_volume(&r, "pvc-1", SIZE);
    assert_ok(volume_id_parse(v.volume_id, &id, &r.err), r.err);
    assert_ok(volume_open(r.f.set->pools[0], &id, false, &held, &r.err), r.err);
    assert_fails(rig_delete(&r, v.volume_id), r.err, ERR_ABORTED);
    assert_false(rig_is_gone(&r, v.volume_id));
}

/* Neither kept silently nor destroyed on a guess. */
static void test_damaged_record(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;
    struct volume_id id;

    rig_make(&r, 1);
    v = rig_volume(&r, "pvc-1", SIZE);
    assert_ok(volume_id_parse(v.volume_id, &id, &r.err), r.err);
    assert_int_equal(truncate(place_path(&r.f, &id, "record.json"), 10), 0);
    assert_fails(rig_delete(&r, v.volume_id), r.err, ERR_DATA_LOSS);
    assert_non_null(strstr(r.err.msg, "by hand"));
    assert_non_null(strstr(r.err.msg, place_path(&r.f, &id, "")));
    assert_int_equal(unlink(place_path(&r.f, &id, "record.json")), 0);
    assert_fails(rig_delete(&r, v.volume_id), r.err, ERR_DATA_LOSS);
    assert_true(exists(place_path(&r.f, &id, "image")));
}

static void test_half_made(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;
    struct volume_id id;

    rig_make(&r, 1);
    keyd.fails = ERR_UNAVAILABLE;
    assert_fails(rig_create(&r, "pvc-1", SIZE, &v), r.err, ERR_UNAVAILABLE);
    assert_ok(rig_delete(&r, rig_id(&r, 0, "pvc-1")), r.err);
    assert_true(rig_is_gone(&r, rig_id(&r, 0, "pvc-1")));
    /* a place with a lock and nothing else */
    id = fixture_id(&r.f, 0, "pvc-2");
    {
        AUTO_VOLUME struct volume place = VOLUME_INIT;

        assert_ok(volume_open(r.f.set->pools[0], &id, true, &place, &r.err), r.err);
    }
    assert_ok(rig_delete(&r, rig_id(&r, 0, "pvc-2")), r.err);
    assert_true(rig_is_gone(&r, rig_id(&r, 0, "pvc-2")));
}

#ifdef COFFER_FAULT
static void make_one(void *ctx)
{
    (void)rig_volume(ctx, "pvc-1", SIZE);
}

static int delete_in_child(void *ctx)
{
    return rig_delete(ctx, rig_id(ctx, 0, "pvc-1"));
}

static void gone_after_repeat(void *ctx)
{
    assert_int_equal(delete_in_child(ctx), 0);
    assert_true(rig_is_gone(ctx, rig_id(ctx, 0, "pvc-1")));
}

/* From the first irrevocable step on nobody may use the volume, whenever the rest follows. */
static void test_says_erased_first(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    AUTO_TMPDIR struct tmpdir faults = tmpdir_make();
    struct volume_id id;
    int status;

    rig_make(&r, 1);
    make_one(&r);
    id = fixture_id(&r.f, 0, "pvc-1");
    status = fault_child(faults.path, "kill controller:delete:erased", delete_in_child, &r);
    assert_true(WIFSIGNALED(status));
    assert_true(exists(place_path(&r.f, &id, "image")));
    assert_int_equal(rig_record(&r, rig_id(&r, 0, "pvc-1")).state, RECORD_ERASED);
    gone_after_repeat(&r);
}

static void test_kill_sweep(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;

    rig_make(&r, 1);
    assert_true(sweep(make_one, delete_in_child, gone_after_repeat, &r) >= 8);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_delete),
        cmocka_unit_test(test_kept_key),
        cmocka_unit_test(test_key_in_the_record),
        cmocka_unit_test(test_forged_kind),
        cmocka_unit_test(test_absent_is_ok),
        cmocka_unit_test(test_elsewhere_is_not_absent),
        cmocka_unit_test(test_in_use),
        cmocka_unit_test(test_use_can_not_be_seen),
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_damaged_record),
        cmocka_unit_test(test_half_made),
#ifdef COFFER_FAULT
        cmocka_unit_test(test_says_erased_first),
        cmocka_unit_test(test_kill_sweep),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

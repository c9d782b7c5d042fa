/* SPDX-License-Identifier: Apache-2.0 */
/* What a failed CreateVolume leaves behind, and whether its caller hears that he has to come back:
 * after any code but four he goes elsewhere, and nobody deletes what is here. */
#include "common/base.h"
#include "tests/unit/controller/fixture.h"

#include "backends/file.h"
#include "tests/support/namespace.h"

#include <stdlib.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#define SIZE MIB(20)

/* ---- a backend some of whose calls fail ---- */

static struct {
    enum error_code check, read, write_new, remove;
} failing;

static int failing_check(struct pool *pool, struct error *err)
{
    return failing.check != ERR_OK ? error_set(err, failing.check, "no check today")
                                   : file_backend.pool_check(pool, err);
}

static int failing_read(struct volume *v, struct record *ret, struct error *err)
{
    return failing.read != ERR_OK ? error_set(err, failing.read, "no reading today")
                                  : file_backend.read_record(v, ret, err);
}

/* As when the file was renamed and its directory could not be flushed. */
static int failing_write(struct volume *v, struct record *r, struct error *err)
{
    struct record written = *r;

    if (r->state != RECORD_NEW || failing.write_new == ERR_OK)
        return file_backend.write_record(v, r, err);
    return file_backend.write_record(v, &written, err) < 0
               ? -1
               : error_set(err, failing.write_new, "no flush today");
}

static int failing_remove(struct volume *v, struct error *err)
{
    return failing.remove != ERR_OK ? error_set(err, failing.remove, "no removal today")
                                    : file_backend.remove(v, err);
}

static void let_fail(struct rig *r)
{
    static struct backend_ops ops;

    memset(&failing, 0, sizeof(failing));
    ops = file_backend;
    ops.pool_check = failing_check;
    ops.read_record = failing_read;
    ops.write_record = failing_write;
    ops.remove = failing_remove;
    r->f.set->pools[0]->ops = &ops;
}

static int create_in_b(struct rig *r)
{
    struct csi_create_volume_request req = rig_request("pvc-1", "b", SIZE);
    struct csi_volume v;

    r->err = (struct error)ERROR_INIT;
    return controller_create(&r->c, &r->call, &req, &v, &r->err);
}

/* ---- tests ---- */

/* It was undone once, image and stored key, while the record said `new`: the repeated call then
 * answered for a volume without an image. */
static void test_unflushed_record_is_not_undone(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;
    struct volume_id id;

    rig_make(&r, 1);
    let_fail(&r);
    keyd.kind = "kv";
    id = fixture_id(&r.f, 0, "pvc-1");
    failing.write_new = ERR_INTERNAL;
    assert_fails(rig_create(&r, "pvc-1", SIZE, &v), r.err, ERR_ABORTED);
    assert_non_null(strstr(r.err.msg, "no flush today"));
    assert_int_equal(keyd.destroyed, 0);
    assert_true(exists(place_path(&r.f, &id, "image")));
    failing.write_new = ERR_OK;
    assert_ok(rig_create(&r, "pvc-1", SIZE, &v), r.err);
    assert_int_equal(keyd.minted, 1);
    assert_string_equal(csi_map_get(&v.volume_context, "uuid"), keyd.uuid);
}

/* The request that removes the key may be carried out when its answer isn't waited for any more. */
static void test_a_key_that_may_go_late_is_not_taken_again(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;
    char first[37];

    rig_make(&r, 1);
    keyd.kind = "kv";
    keyd.destroy_fails = ERR_UNAVAILABLE;
    assert_fails(rig_create(&r, "pvc-1", GEOMETRY_SIZE_MAX, &v), r.err, ERR_ABORTED);
    memcpy(first, keyd.uuid, sizeof(first));
    keyd.destroy_fails = ERR_OK;
    assert_fails(rig_create(&r, "pvc-1", GEOMETRY_SIZE_MAX, &v), r.err, ERR_EXHAUSTED);
    assert_string_not_equal(keyd.uuid, first);
    assert_int_equal(keyd.minted, 2);
    assert_int_equal(keyd.destroyed, 2);
    assert_true(rig_is_gone(&r, rig_id(&r, 0, "pvc-1")));
}

/* The answer to the first call was lost; the second is not to send its caller to another node. */
static void test_a_volume_that_is_there_is_not_given_up(void **state UNUSED)
{
    static const enum error_code codes[] = { ERR_EXHAUSTED, ERR_INTERNAL, ERR_PERMISSION };
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v, again;

    rig_make(&r, 1);
    let_fail(&r);
    v = rig_volume(&r, "pvc-1", SIZE);
    for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
        failing.read = codes[i];
        assert_fails(rig_create(&r, "pvc-1", SIZE, &again), r.err, ERR_ABORTED);
        assert_non_null(strstr(r.err.msg, "no reading today"));
        failing.read = ERR_OK;
        failing.check = codes[i];
        assert_fails(rig_create(&r, "pvc-1", SIZE, &again), r.err, ERR_ABORTED);
        assert_non_null(strstr(r.err.msg, "no check today"));
        failing.check = ERR_OK;
    }
    /* what is wrong with the volume itself is said as it is */
    failing.read = ERR_DATA_LOSS;
    assert_fails(rig_create(&r, "pvc-1", SIZE, &again), r.err, ERR_DATA_LOSS);
    failing.read = ERR_OK;
    assert_ok(rig_create(&r, "pvc-1", SIZE, &again), r.err);
    assert_string_equal(csi_map_get(&again.volume_context, "uuid"),
                        csi_map_get(&v.volume_context, "uuid"));
}

/* Nor when there isn't the memory to read what is asked for. */
static void test_a_request_that_cannot_be_read_is_repeated(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;

    rig_make(&r, 1);
    v = rig_volume(&r, "pvc-1", SIZE);
    arena_free(r.call.arena);
    r.call.arena = arena_new(16);
    assert_non_null(r.call.arena);
    assert_fails(rig_create(&r, "pvc-1", SIZE, &v), r.err, ERR_ABORTED);
    assert_non_null(strstr(r.err.msg, "out of memory"));
}

/* What never came to be in another pool goes whole, also when that takes two calls: what was left
 * `erased` there was nobody's. */
static void test_unborn_elsewhere_goes_whole(void **state UNUSED)
{
    static const enum error_code codes[] = { ERR_UNAVAILABLE, ERR_INTERNAL };
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;

    rig_make(&r, 2);
    let_fail(&r);
    keyd.fails = ERR_UNAVAILABLE;
    assert_fails(rig_create(&r, "pvc-1", SIZE, &v), r.err, ERR_UNAVAILABLE);
    keyd.fails = ERR_OK;
    for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
        failing.remove = codes[i];
        assert_fails(create_in_b(&r), r.err, i == 0 ? ERR_UNAVAILABLE : ERR_ABORTED);
        assert_non_null(strstr(r.err.msg, "no removal today"));
        assert_int_equal(rig_record(&r, rig_id(&r, 0, "pvc-1")).state, RECORD_ERASED);
    }
    failing.remove = ERR_OK;
    assert_ok(create_in_b(&r), r.err);
    assert_true(rig_is_gone(&r, rig_id(&r, 0, "pvc-1")));
    assert_int_equal(keyd.minted, 1);
}

/* A volume was made, and the repeated call said DATA_LOSS for ever: of the same place under the
 * other name. */
static void test_one_pool_under_two_names_makes_nothing(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;

    rig_make(&r, 2);
    pool_set_free(r.f.set);
    assert_int_equal(symlink(".", tmpdir_path(&r.f.dir, "link")), 0);
    (void)snprintf(r.f.pools[1].path, sizeof(r.f.pools[1].path), "%s/link/a", r.f.dir.path);
    assert_ok(pool_set_open(&r.f.config, &r.f.set, &r.err), r.err);
    r.c.pools = r.f.set;
    assert_fails(rig_create(&r, "pvc-1", SIZE, &v), r.err, ERR_UNAVAILABLE);
    assert_non_null(strstr(r.err.msg, "pools 'a' and 'b' are one"));
    assert_true(rig_is_gone(&r, rig_id(&r, 0, "pvc-1")));
    assert_int_equal(keyd.minted, 0);
}

/* ---- a full inode table ---- */

static fsfilcnt_t free_inodes(const char *path)
{
    struct statvfs st;

    assert_int_equal(statvfs(path, &st), 0);
    return st.f_ffree;
}

static void fill(struct rig *r, const char *at, unsigned leave)
{
    char name[32];

    for (unsigned i = 0; free_inodes(at) > leave; i++) {
        (void)snprintf(name, sizeof(name), "filler-%u", i);
        tmpdir_write(&r->f.dir, name, "", 0);
    }
}

static void unfill(struct rig *r)
{
    char name[32];

    for (unsigned i = 0; i < 64; i++) {
        (void)snprintf(name, sizeof(name), "filler-%u", i);
        (void)unlinkat(r->f.dir.fd, name, 0);
    }
}

/* How many of the creates found too few. */
static unsigned create_with_few_inodes(const char *at)
{
    AUTO_RIG struct rig r = RIG_INIT;
    unsigned failed = 0;
    struct csi_volume v;

    rig_make(&r, 1);
    assert_ok(rig_delete(&r, rig_volume(&r, "pvc-0", SIZE).volume_id), r.err);
    for (unsigned leave = 8; leave-- > 0;) {
        fill(&r, at, leave);
        if (rig_create(&r, "pvc-1", SIZE, &v) < 0) {
            assert_int_equal(r.err.code, ERR_EXHAUSTED);
            failed++;
        } else {
            assert_ok(rig_delete(&r, v.volume_id), r.err);
        }
        assert_true(rig_is_gone(&r, rig_id(&r, 0, "pvc-1")));
        unfill(&r);
    }
    return failed;
}

static int in_small_file_system(void)
{
    AUTO_TMPDIR struct tmpdir at = tmpdir_make();
    unsigned failed;

    if (namespace_enter_tmpfs(at.path, "size=60m,nr_inodes=64") < 0)
        return FIXTURE_NO_NAMESPACE;
    failed = create_with_few_inodes(at.path);
    (void)umount2(at.path, MNT_DETACH);
    return failed >= 3 && failed < 8 ? 0 : 1;
}

/* The last inode went to a directory that nobody would ever remove. */
static void test_a_full_inode_table_leaves_nothing(void **state UNUSED)
{
    pid_t child = fork();

    if (child == 0)
        _exit(in_small_file_system());
    fixture_demand_child(child);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unflushed_record_is_not_undone),
        cmocka_unit_test(test_a_key_that_may_go_late_is_not_taken_again),
        cmocka_unit_test(test_a_volume_that_is_there_is_not_given_up),
        cmocka_unit_test(test_a_request_that_cannot_be_read_is_repeated),
        cmocka_unit_test(test_unborn_elsewhere_goes_whole),
        cmocka_unit_test(test_one_pool_under_two_names_makes_nothing),
        cmocka_unit_test(test_a_full_inode_table_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

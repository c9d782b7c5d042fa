/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "tests/unit/backends/fixture.h"

static void test_find(void **state UNUSED)
{
    assert_non_null(backend_find("file"));
    assert_null(backend_find("lvm"));
    assert_null(backend_find(""));
}

static void test_same_path_is_refused(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct pool_set *set = NULL;
    struct error err = ERROR_INIT;

    fixture_make(&f, 2);
    f.pools[1] = f.pools[0];
    (void)snprintf(f.pools[1].name, sizeof(f.pools[1].name), "twin");
    assert_fails(pool_set_open(&f.config, &set, &err), err, ERR_INVALID);
    assert_null(set);
    assert_non_null(strstr(err.msg, "'a' and 'twin'"));
}

static void test_late_pool(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct error err = ERROR_INIT;
    struct pool *pool = NULL;
    struct volume_id id;

    fixture_make(&f, 1);
    id = fixture_id(&f, 0, "pvc-1");
    pool_set_free(f.set);
    assert_int_equal(rename(tmpdir_path(&f.dir, "a"), tmpdir_path(&f.dir, "away")), 0);
    assert_ok(pool_set_open(&f.config, &f.set, &err), err);
    assert_string_equal(f.set->pools[0]->tag, "");
    assert_fails(pool_set_for_id(f.set, &id, &pool, &err), err, ERR_UNAVAILABLE);
    assert_int_equal(rename(tmpdir_path(&f.dir, "away"), tmpdir_path(&f.dir, "a")), 0);
    err = (struct error)ERROR_INIT;
    assert_ok(pool_set_for_id(f.set, &id, &pool, &err), err);
    assert_string_equal(pool->tag, id.pool_tag);
}

static void test_for_id(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct pool *pool = NULL;
    struct volume_id id;

    fixture_make(&f, 2);
    id = fixture_id(&f, 1, "pvc-1");
    assert_ok(pool_set_for_id(f.set, &id, &pool, &err), err);
    assert_ptr_equal(pool, f.set->pools[1]);
    assert_ptr_equal(pool_set_find(f.set, "b"), pool);
    assert_null(pool_set_find(f.set, "c"));
    id.pool_tag[0] = id.pool_tag[0] == '0' ? '1' : '0';
    assert_fails(pool_set_for_id(f.set, &id, &pool, &err), err, ERR_PRECONDITION);
    assert_fails(volume_open(f.set->pools[1], &id, true, &v, &err), err, ERR_PRECONDITION);
    (void)snprintf(id.pool, sizeof(id.pool), "c");
    assert_fails(pool_set_for_id(f.set, &id, &pool, &err), err, ERR_NOT_FOUND);
}

static void test_close_is_safe_on_nothing(void **state UNUSED)
{
    struct volume v = VOLUME_INIT;
    struct block_device d = BLOCK_DEVICE_INIT;

    volume_close(&v);
    volume_close(&v);
    block_device_close(&d);
    assert_int_equal(v.lock_fd, -1);
    assert_int_equal(d.fd, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_same_path_is_refused),
        cmocka_unit_test(test_late_pool),
        cmocka_unit_test(test_for_id),
        cmocka_unit_test(test_close_is_safe_on_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "tests/unit/backends/fixture.h"

#include "tests/support/namespace.h"

#include <sys/mount.h>

static const struct backend_ops *ops(void)
{
    return backend_find("file");
}

static void write_text(const char *path, const char *text)
{
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void test_init_makes_one_id(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct error err = ERROR_INIT;
    struct stat st;
    char tag[9] = "unset";

    fixture_make(&f, 2);
    assert_true(hex_lower_valid(f.set->pools[0]->tag, 8));
    assert_string_not_equal(f.set->pools[0]->tag, f.set->pools[1]->tag);
    assert_int_equal(stat(tmpdir_path(&f.dir, "a/pool.json"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_fails(ops()->pool_init(&f.pools[0], NULL, tag, &err), err, ERR_EXISTS);
    assert_string_equal(tag, "unset");
}

static void test_init_wants_an_empty_directory(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct error err = ERROR_INIT;
    char tag[9];

    fixture_make(&f, 2);
    (void)fixture_volume(&f, 0, "pvc-1");
    assert_int_equal(unlink(tmpdir_path(&f.dir, "a/pool.json")), 0);
    assert_fails(ops()->pool_init(&f.pools[0], NULL, tag, &err), err, ERR_PRECONDITION);
    /* whichever the file system names first: volumes, spare */
    assert_non_null(strstr(err.msg, "is not empty (it holds '"));
    assert_non_null(strstr(err.msg, "bring back its pool.json"));
    /* what a fresh ext4 holds, and what a killed init leaves, are no obstacle */
    assert_int_equal(unlink(tmpdir_path(&f.dir, "b/pool.json")), 0);
    assert_int_equal(mkdir(tmpdir_path(&f.dir, "b/lost+found"), 0700), 0);
    write_text(tmpdir_path(&f.dir, "b/pool.json.tmp"), "{\"v\":1,");
    err = (struct error)ERROR_INIT;
    assert_ok(ops()->pool_init(&f.pools[1], NULL, tag, &err), err);
}

static void test_missing_pool_is_unavailable(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct pool_capacity capacity;
    struct volume_id id;
    struct record r;
    struct pool *pool;

    fixture_make(&f, 1);
    pool = f.set->pools[0];
    id = fixture_volume(&f, 0, "pvc-1");
    /* an unmounted file system: the directory is there, and empty */
    assert_int_equal(rename(tmpdir_path(&f.dir, "a"), tmpdir_path(&f.dir, "away")), 0);
    assert_int_equal(mkdir(tmpdir_path(&f.dir, "a"), 0700), 0);
    assert_fails(pool_ready(pool, &err), err, ERR_UNAVAILABLE);
    assert_fails(volume_open(pool, &id, true, &v, &err), err, ERR_UNAVAILABLE);
    assert_fails(pool->ops->peek_record(pool, &id, &r, &err), err, ERR_UNAVAILABLE);
    assert_fails(pool->ops->capacity(pool, &capacity, &err), err, ERR_UNAVAILABLE);
    assert_false(exists(tmpdir_path(&f.dir, "a/volumes")));
    /* gone altogether */
    assert_int_equal(rmdir(tmpdir_path(&f.dir, "a")), 0);
    assert_fails(pool_ready(pool, &err), err, ERR_UNAVAILABLE);
    /* and back */
    assert_int_equal(rename(tmpdir_path(&f.dir, "away"), tmpdir_path(&f.dir, "a")), 0);
    err = (struct error)ERROR_INIT;
    assert_ok(volume_open(pool, &id, false, &v, &err), err);
}

static void test_other_pool_is_unavailable(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct error err = ERROR_INIT;

    fixture_make(&f, 1);
    write_text(tmpdir_path(&f.dir, "a/pool.json"),
               "{\"v\":1,\"id\":\"00000000000000000000000000000000\",\"backend\":\"file\"}");
    assert_fails(pool_ready(f.set->pools[0], &err), err, ERR_UNAVAILABLE);
    assert_non_null(strstr(err.msg, "another pool"));
}

static void test_bad_pool_json(void **state UNUSED)
{
    static const char *const bad[] = {
        "",
        "{}",
        "{\"v\":1,\"id\":\"00000000000000000000000000000000\"}",
        "{\"v\":2,\"id\":\"00000000000000000000000000000000\",\"backend\":\"file\"}",
        "{\"v\":1,\"id\":\"0000000000000000000000000000000\",\"backend\":\"file\"}",
        "{\"v\":1,\"id\":\"0000000000000000000000000000000G\",\"backend\":\"file\"}",
        "{\"v\":1,\"id\":\"00000000000000000000000000000000\",\"backend\":\"lvm\"}",
        "{\"v\":1,\"id\":\"00000000000000000000000000000000\",\"backend\":\"file\",\"x\":1}",
    };

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
        struct error err = ERROR_INIT;

        fixture_make(&f, 1);
        write_text(tmpdir_path(&f.dir, "a/pool.json"), bad[i]);
        assert_fails(pool_ready(f.set->pools[0], &err), err, ERR_UNAVAILABLE);
        pool_set_free(f.set);
        /* also for a program that starts now: no error, but no pool either */
        err = (struct error)ERROR_INIT;
        assert_ok(pool_set_open(&f.config, &f.set, &err), err);
        assert_fails(pool_ready(f.set->pools[0], &err), err, ERR_UNAVAILABLE);
    }
}

static void test_capacity(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct pool_capacity before = { .total = 0 };
    struct error err = ERROR_INIT;

    fixture_make(&f, 1);
    assert_ok(ops()->capacity(f.set->pools[0], &before, &err), err);
    assert_true(before.available > 0 && before.available <= before.total);
    assert_int_equal(before.available % MIB(1), 0);
    assert_int_equal(before.total % MIB(1), 0);
}

static int remount(const char *path, unsigned long flags)
{
    return mount(NULL, path, NULL, MS_REMOUNT | flags, NULL);
}

/* 1 to 3: not as it should be. */
static int capacity_read_only(bool sparse)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_TMPDIR struct tmpdir at = tmpdir_make();
    struct pool_capacity c = { .total = 0 };
    struct error err = ERROR_INIT;
    int r = 0;

    if (namespace_enter_tmpfs(at.path, "size=200m") < 0)
        return FIXTURE_NO_NAMESPACE;
    fixture_make(&f, 1);
    f.pools[0].overcommit = 2;
    if (str_copy(f.pools[0].allocate, sizeof(f.pools[0].allocate), sparse ? "sparse" : "full") <
            0 ||
        remount(at.path, MS_RDONLY) < 0 || ops()->capacity(f.set->pools[0], &c, &err) < 0)
        r = 1;
    else if (c.available != 0 || c.total == 0 || c.free == 0)
        r = 2;
    else if (remount(at.path, 0) < 0 || ops()->capacity(f.set->pools[0], &c, &err) < 0 ||
             c.available == 0)
        r = 3;
    fixture_release(&f);
    (void)umount2(at.path, MNT_DETACH);
    return r;
}

/* Whatever is free there: a scheduler would send volumes to it for ever. */
static void test_read_only_has_no_room(void **state UNUSED)
{
    for (int sparse = 0; sparse < 2; sparse++) {
        pid_t child = fork();

        if (child == 0)
            _exit(capacity_read_only(sparse == 1));
        fixture_demand_child(child);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init_makes_one_id),
        cmocka_unit_test(test_init_wants_an_empty_directory),
        cmocka_unit_test(test_missing_pool_is_unavailable),
        cmocka_unit_test(test_other_pool_is_unavailable),
        cmocka_unit_test(test_bad_pool_json),
        cmocka_unit_test(test_capacity),
        cmocka_unit_test(test_read_only_has_no_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

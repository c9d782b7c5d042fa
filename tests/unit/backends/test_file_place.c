/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "tests/unit/backends/fixture.h"

#include "common/fs.h"
#include "tests/support/skip.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/file.h>

static void test_open_without_create(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct volume_id id;

    fixture_make(&f, 1);
    id = fixture_id(&f, 0, "pvc-1");
    assert_fails(volume_open(f.set->pools[0], &id, false, &v, &err), err, ERR_NOT_FOUND);
    assert_false(exists(tmpdir_path(&f.dir, "a/volumes")));
    /* an empty place, from a create killed after mkdir or a delete killed before rmdir, goes away
     */
    err = (struct error)ERROR_INIT;
    assert_ok(volume_open(f.set->pools[0], &id, true, &v, &err), err);
    volume_close(&v);
    assert_int_equal(unlink(place_path(&f, &id, "lock")), 0);
    assert_fails(volume_open(f.set->pools[0], &id, false, &v, &err), err, ERR_NOT_FOUND);
    assert_false(exists(place_path(&f, &id, "")));
}

/* Restored from a backup that left the lock files out: that is a volume. */
static void test_lock_is_made_anew(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct volume_id id;
    struct record r;

    fixture_make(&f, 1);
    id = fixture_volume(&f, 0, "pvc-1");
    assert_int_equal(unlink(place_path(&f, &id, "lock")), 0);
    assert_ok(volume_open(f.set->pools[0], &id, false, &v, &err), err);
    assert_ok(v.pool->ops->read_record(&v, &r, &err), err);
}

static void test_lock_is_exclusive(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT, second = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct volume_id id;

    fixture_make(&f, 1);
    id = fixture_volume(&f, 0, "pvc-1");
    assert_ok(volume_open(f.set->pools[0], &id, false, &v, &err), err);
    assert_true((fcntl(v.lock_fd, F_GETFD) & FD_CLOEXEC) != 0);
    assert_true((fcntl(v.dir_fd, F_GETFD) & FD_CLOEXEC) != 0);
    assert_fails(volume_open(f.set->pools[0], &id, false, &second, &err), err, ERR_ABORTED);
    assert_fails(volume_open(f.set->pools[0], &id, true, &second, &err), err, ERR_ABORTED);
    assert_int_equal(second.lock_fd, -1);
    volume_close(&v);
    err = (struct error)ERROR_INIT;
    assert_ok(volume_open(f.set->pools[0], &id, false, &second, &err), err);
}

/* An orphaned mkfs still holds its volume: the lock belongs to the open description. */
static void test_child_holds_the_lock(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct volume_id id;
    int pipe_fd[2], status;
    pid_t child;

    fixture_make(&f, 1);
    id = fixture_volume(&f, 0, "pvc-1");
    assert_ok(volume_open(f.set->pools[0], &id, false, &v, &err), err);
    assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
    child = fork();
    if (child == 0) {
        char c;

        (void)close(pipe_fd[1]);
        (void)!read(pipe_fd[0], &c, 1);
        _exit(0);
    }
    volume_close(&v);
    assert_fails(volume_open(f.set->pools[0], &id, false, &v, &err), err, ERR_ABORTED);
    (void)close(pipe_fd[1]);
    (void)close(pipe_fd[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    err = (struct error)ERROR_INIT;
    assert_ok(volume_open(f.set->pools[0], &id, false, &v, &err), err);
}

static void test_remove(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct volume_id id, other;

    fixture_make(&f, 1);
    id = fixture_volume(&f, 0, "pvc-1");
    other = fixture_volume(&f, 0, "pvc-2");
    assert_ok(volume_open(f.set->pools[0], &id, false, &v, &err), err);
    assert_ok(v.pool->ops->remove(&v, &err), err);
    assert_false(exists(place_path(&f, &id, "")));
    assert_true(exists(place_path(&f, &other, "image")));
    assert_ok(v.pool->ops->remove(&v, &err), err);
    volume_close(&v);
    assert_fails(volume_open(f.set->pools[0], &id, false, &v, &err), err, ERR_NOT_FOUND);
}

/* Whoever waits with the old lock file open must not believe that it holds the new volume. */
/* The flush itself shows in no file system that goes on: that it is asked for, and what it says. */
static void test_absent_is_settled(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct pool *pool;
    struct volume_id id;
    char shard[64];

    fixture_make(&f, 1);
    pool = f.set->pools[0];
    id = fixture_id(&f, 0, "pvc-1");
    assert_ok(pool->ops->settle_absent(pool, &id, &err), err); /* no folder at all */
    assert_ok(volume_open(pool, &id, true, &v, &err), err);
    assert_ok(pool->ops->remove(&v, &err), err);
    volume_close(&v);
    assert_ok(pool->ops->settle_absent(pool, &id, &err), err);
    (void)snprintf(shard, sizeof(shard), "a/volumes/%.2s", id.hash);
    assert_int_equal(rmdir(tmpdir_path(&f.dir, shard)), 0);
    assert_int_equal(symlink("elsewhere", tmpdir_path(&f.dir, shard)), 0);
    assert_int_equal(pool->ops->settle_absent(pool, &id, &err), -1);
    assert_non_null(strstr(err.msg, "pool 'a'"));
}

static void test_stale_lock_file_is_noticed(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume old = VOLUME_INIT, new = VOLUME_INIT, third = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct volume_id id;

    fixture_make(&f, 1);
    id = fixture_volume(&f, 0, "pvc-1");
    assert_ok(volume_open(f.set->pools[0], &id, false, &old, &err), err);
    assert_ok(old.pool->ops->remove(&old, &err), err);
    /* the name is free at once, though the remover still has its descriptor */
    assert_ok(volume_open(f.set->pools[0], &id, true, &new, &err), err);
    assert_fails(volume_open(f.set->pools[0], &id, true, &third, &err), err, ERR_ABORTED);
    /* and the remover can't take the new one away */
    err = (struct error)ERROR_INIT;
    assert_ok(old.pool->ops->remove(&old, &err), err);
    assert_true(exists(place_path(&f, &id, "lock")));
}

static void test_foreign_files_stay(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct volume_id id;
    int fd;

    fixture_make(&f, 1);
    id = fixture_volume(&f, 0, "pvc-1");
    fd = open(place_path(&f, &id, "notes.txt"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_ok(volume_open(f.set->pools[0], &id, false, &v, &err), err);
    assert_fails(v.pool->ops->remove(&v, &err), err, ERR_PRECONDITION);
    assert_true(exists(place_path(&f, &id, "notes.txt")));
}

/* The unprivileged owner of the pool must not lead root anywhere by a link. */
static void test_links_are_not_followed(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct volume_id id;
    char shard[4096];

    fixture_make(&f, 1);
    id = fixture_volume(&f, 0, "pvc-1");
    (void)snprintf(shard, sizeof(shard), "%s/a/volumes/%.2s", f.dir.path, id.hash);
    assert_int_equal(rename(shard, tmpdir_path(&f.dir, "moved")), 0);
    assert_int_equal(symlink(tmpdir_path(&f.dir, "moved"), shard), 0);
    assert_int_equal(volume_open(f.set->pools[0], &id, false, &v, &err), -1);
    assert_int_not_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(unlink(shard), 0);
    /* inside the pool too */
    assert_int_equal(rename(tmpdir_path(&f.dir, "moved"), tmpdir_path(&f.dir, "a/volumes/moved")),
                     0);
    assert_int_equal(symlink("moved", shard), 0);
    assert_int_equal(volume_open(f.set->pools[0], &id, false, &v, &err), -1);
    assert_int_not_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(unlink(shard), 0);
    assert_int_equal(rename(tmpdir_path(&f.dir, "a/volumes/moved"), shard), 0);
    assert_int_equal(unlink(place_path(&f, &id, "lock")), 0);
    assert_int_equal(symlink("record.json", place_path(&f, &id, "lock")), 0);
    assert_fails(volume_open(f.set->pools[0], &id, false, &v, &err), err, ERR_DATA_LOSS);
    assert_int_equal(unlink(place_path(&f, &id, "lock")), 0);
    assert_int_equal(mkfifo(place_path(&f, &id, "lock"), 0600), 0);
    assert_fails(volume_open(f.set->pools[0], &id, false, &v, &err), err, ERR_DATA_LOSS);
}

/* What root makes belongs to the owner of the pool. */
static void test_owner(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct volume_id id;
    static const char *const names[] = { "", "lock", "record.json", "image" };

    if (geteuid() != 0) {
        skip_because(SKIP_NO_ROOT);
        return;
    }
    fixture_make(&f, 1);
    assert_int_equal(chown(tmpdir_path(&f.dir, "a"), 4711, 4712), 0);
    id = fixture_volume(&f, 0, "pvc-1");
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct stat st;

        assert_int_equal(lstat(place_path(&f, &id, names[i]), &st), 0);
        assert_int_equal(st.st_uid, 4711);
        assert_int_equal(st.st_gid, 4712);
        assert_int_equal(st.st_mode & 07777, S_ISDIR(st.st_mode) ? 0700 : 0600);
    }
}

/* ---- many at once ---- */

struct racer {
    struct pool *pool;
    struct volume_id id;
    int *inside; /* shared */
    int opened;
};

static void *race(void *arg)
{
    struct racer *r = arg;

    for (int i = 0; i < 200; i++) {
        AUTO_VOLUME struct volume v = VOLUME_INIT;
        struct error err = ERROR_INIT;

        if (volume_open(r->pool, &r->id, i % 3 != 0, &v, &err) < 0) {
            if (err.code != ERR_ABORTED && err.code != ERR_NOT_FOUND)
                return (void *)1;
            continue;
        }
        if (__atomic_add_fetch(r->inside, 1, __ATOMIC_SEQ_CST) != 1)
            return (void *)2;
        r->opened++;
        (void)sched_yield();
        /* a removal frees the name before our close: count down first */
        (void)__atomic_sub_fetch(r->inside, 1, __ATOMIC_SEQ_CST);
        if (i % 2 == 0 && v.pool->ops->remove(&v, &err) < 0)
            return (void *)3;
    }
    return NULL;
}

/* Makers and removers of one name: never two inside. */
static void test_race(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct racer racers[6];
    pthread_t threads[ARRAY_SIZE(racers)];
    int inside = 0, opened = 0;

    fixture_make(&f, 1);
    for (size_t i = 0; i < ARRAY_SIZE(racers); i++) {
        racers[i] = (struct racer){ .pool = f.set->pools[0],
                                    .id = fixture_id(&f, 0, "pvc-1"),
                                    .inside = &inside };
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(racers); i++) {
        void *result;

        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_null(result);
        opened += racers[i].opened;
    }
    assert_true(opened > 0);
}

#ifdef COFFER_FAULT
static void make_place(struct fixture *f, const struct volume_id *id)
{
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;

    assert_ok(volume_open(f->set->pools[0], id, true, &v, &err), err);
}

/* ---- the lock file changes between open and flock ---- */

struct opener {
    struct fixture *f;
    struct volume_id id;
    struct volume v;
    struct error err;
    int result;
};

static void *open_paused(void *arg)
{
    struct opener *o = arg;

    o->result = volume_open(o->f->set->pools[0], &o->id, false, &o->v, &o->err);
    return NULL;
}

static void put_lock(const struct fixture *f, const struct volume_id *id)
{
    int fd = open(place_path(f, id, "lock"), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    (void)close(fd);
}

static void replace_lock(const struct fixture *f, const struct volume_id *id)
{
    assert_int_equal(unlink(place_path(f, id, "lock")), 0);
    put_lock(f, id);
}

static void replace_place(const struct fixture *f, const struct volume_id *id)
{
    assert_int_equal(unlink(place_path(f, id, "lock")), 0);
    assert_int_equal(rmdir(place_path(f, id, "")), 0);
    assert_int_equal(mkdir(place_path(f, id, ""), 0700), 0);
    put_lock(f, id);
}

static void remove_all(const struct fixture *f, const struct volume_id *id)
{
    assert_int_equal(unlink(place_path(f, id, "lock")), 0);
    assert_int_equal(rmdir(place_path(f, id, "")), 0);
}

static void open_while(struct opener *o,
                       void (*change)(const struct fixture *, const struct volume_id *))
{
    AUTO_TMPDIR struct tmpdir faults = tmpdir_make();
    pthread_t thread;

    make_place(o->f, &o->id);
    o->v = (struct volume)VOLUME_INIT;
    o->err = (struct error)ERROR_INIT;
    assert_true(fault_arm(faults.path, "pause file:open:lock"));
    assert_int_equal(pthread_create(&thread, NULL, open_paused, o), 0);
    for (int i = 0; i < 1000 && !exists(fault_path(faults.path, "paused")); i++)
        (void)usleep(10000);
    assert_true(exists(fault_path(faults.path, "paused")));
    change(o->f, &o->id);
    (void)unlink(fault_path(faults.path, "arm"));
    assert_int_equal(pthread_join(thread, NULL), 0);
    fault_disarm(faults.path);
}

static void test_lock_changes_before_flock(void **state UNUSED)
{
    static void (*const changes[])(const struct fixture *,
                                   const struct volume_id *) = { replace_lock, replace_place };
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct opener o = { .f = &f };

    fixture_make(&f, 1);
    o.id = fixture_id(&f, 0, "pvc-1");
    for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
        struct stat held, there;

        open_while(&o, changes[i]);
        assert_ok(o.result, o.err);
        assert_int_equal(fstat(o.v.lock_fd, &held), 0);
        assert_int_equal(stat(place_path(&f, &o.id, "lock"), &there), 0);
        assert_true(held.st_ino == there.st_ino && held.st_nlink == 1);
        volume_close(&o.v);
    }
    open_while(&o, remove_all);
    assert_int_equal(o.result, -1);
    assert_int_equal(o.err.code, ERR_NOT_FOUND);
}

struct killed {
    struct fixture *f;
    struct volume_id id;
};

static void before_create(void *ctx)
{
    (void)ctx;
}

static int create_volume(void *ctx)
{
    struct killed *k = ctx;

    (void)fixture_volume(k->f, 0, "pvc-1");
    return 0;
}

static int remove_volume(void *ctx)
{
    struct killed *k = ctx;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;

    if (volume_open(k->f->set->pools[0], &k->id, false, &v, &err) < 0)
        return err.code == ERR_NOT_FOUND ? 0 : -1;
    return v.pool->ops->remove(&v, &err);
}

static void gone_for_good(void *ctx)
{
    struct killed *k = ctx;

    assert_int_equal(remove_volume(k), 0);
    assert_false(exists(place_path(k->f, &k->id, "")));
}

static void make_for_removal(void *ctx)
{
    struct killed *k = ctx;

    (void)fixture_volume(k->f, 0, "pvc-1");
}

static void test_kill_sweep(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct killed k = { .f = &f };
    unsigned kills;

    fixture_make(&f, 1);
    k.id = fixture_id(&f, 0, "pvc-1");
    kills = sweep(before_create, create_volume, gone_for_good, &k);
    assert_true(kills >= 4);
    kills = sweep(make_for_removal, remove_volume, gone_for_good, &k);
    assert_true(kills >= 4);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_without_create),
        cmocka_unit_test(test_lock_is_made_anew),
        cmocka_unit_test(test_lock_is_exclusive),
        cmocka_unit_test(test_child_holds_the_lock),
        cmocka_unit_test(test_remove),
        cmocka_unit_test(test_absent_is_settled),
        cmocka_unit_test(test_stale_lock_file_is_noticed),
        cmocka_unit_test(test_foreign_files_stay),
        cmocka_unit_test(test_links_are_not_followed),
        cmocka_unit_test(test_owner),
        cmocka_unit_test(test_race),
#ifdef COFFER_FAULT
        cmocka_unit_test(test_lock_changes_before_flock),
        cmocka_unit_test(test_kill_sweep),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

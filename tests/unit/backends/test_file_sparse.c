/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "tests/unit/backends/fixture.h"

#include "backends/file.h"
#include "backends/file_ledger.h"
#include "tests/support/namespace.h"

#include <pthread.h>
#include <sys/mount.h>

static void make_sparse(struct fixture *f, double overcommit)
{
    fixture_make(f, 1);
    (void)snprintf(f->pools[0].allocate, sizeof(f->pools[0].allocate), "sparse");
    f->pools[0].overcommit = overcommit;
}

static void open_new(struct fixture *f, const char *name, struct volume *v)
{
    struct volume_id id = fixture_id(f, 0, name);
    struct error err = ERROR_INIT;

    assert_ok(volume_open(f->set->pools[0], &id, true, v, &err), err);
}

static struct pool_capacity capacity(struct fixture *f)
{
    struct pool_capacity c = { .total = 0 };
    struct error err = ERROR_INIT;

    assert_ok(f->set->pools[0]->ops->capacity(f->set->pools[0], &c, &err), err);
    return c;
}

static void test_reserve_and_room(void **state UNUSED)
{
    const struct pool_config config = { .allocate = "sparse", .overcommit = 1.5 };
    struct file_space space = { .total = GIB(100), .free = GIB(2) };

    assert_int_equal(file_sparse_reserve(MIB(100)), MIB(64));
    assert_int_equal(file_sparse_reserve(GIB(10)), GIB(10) / 100);
    assert_int_equal(file_sparse_reserve(GIB(5000)), GIB(1));
    assert_int_equal(file_sparse_room(&config, &space, 0), GIB(150));
    assert_int_equal(file_sparse_room(&config, &space, GIB(149) + 1), MIB(1023));
    assert_int_equal(file_sparse_room(&config, &space, GIB(150)), 0);
    assert_int_equal(file_sparse_room(&config, &space, GIB(200)), 0);
    space.free = GIB(1) - MIB(1);
    assert_int_equal(file_sparse_room(&config, &space, 0), 0);
}

static void test_allocate(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    char back[5] = "";
    uint64_t bytes = 0;
    struct stat st;
    int fd;

    make_sparse(&f, 1);
    open_new(&f, "pvc-1", &v);
    assert_ok(v.pool->ops->allocate(&v, MIB(20), &err), err);
    assert_ok(v.pool->ops->allocate(&v, MIB(20), &err), err);
    assert_int_equal(stat(place_path(&f, &v.id, "image"), &st), 0);
    assert_int_equal(st.st_size, MIB(20));
    assert_true((uint64_t)st.st_blocks * 512 < MIB(1));
    fd = open(place_path(&f, &v.id, "image"), O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "data", 4, (off_t)MIB(19)), 4);
    assert_ok(v.pool->ops->allocate(&v, MIB(40), &err), err);
    assert_ok(v.pool->ops->allocate(&v, MIB(10), &err), err); /* no image ever shrinks */
    assert_ok(v.pool->ops->allocated(&v, &bytes, &err), err);
    assert_int_equal(bytes, MIB(40));
    assert_int_equal(pread(fd, back, 4, (off_t)MIB(19)), 4);
    assert_string_equal(back, "data");
    (void)close(fd);
    assert_int_equal(capacity(&f).promised, MIB(40));
}

static void test_ratio(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT, w = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct pool_capacity c;
    uint64_t bytes = 0;

    make_sparse(&f, 1.25);
    open_new(&f, "pvc-1", &v);
    c = capacity(&f);
    assert_int_equal(c.available, c.total / 4 * 5 / MIB(1) * MIB(1));
    assert_true(c.free > 0 && c.free <= c.total);
    assert_ok(v.pool->ops->allocate(&v, MIB(20), &err), err);
    open_new(&f, "pvc-2", &w);
    assert_fails(w.pool->ops->allocate(&w, c.available, &err), err, ERR_EXHAUSTED);
    assert_non_null(strstr(err.msg, "pool 'a' is full: it has promised 20 MiB"));
    assert_non_null(strstr(err.msg, "overcommit 1.25"));
    err = (struct error)ERROR_INIT;
    assert_ok(w.pool->ops->allocated(&w, &bytes, &err), err);
    assert_int_equal(bytes, 0);
    assert_fails(v.pool->ops->allocate(&v, c.available + MIB(1), &err), err, ERR_EXHAUSTED);
    err = (struct error)ERROR_INIT;
    assert_ok(w.pool->ops->allocate(&w, c.available - MIB(20), &err), err);
    assert_int_equal(capacity(&f).available, 0);
    assert_ok(w.pool->ops->remove(&w, &err), err);
    assert_int_equal(capacity(&f).available, c.available - MIB(20));
}

/* A directory removed by hand, as the error of a lost record asks for: room for others at last. */
static void test_removed_by_hand(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT, w = VOLUME_INIT;
    AUTO_FREE char *text = NULL;
    struct error err = ERROR_INIT;
    uint64_t all;
    char *at;

    make_sparse(&f, 1);
    open_new(&f, "pvc-1", &v);
    open_new(&f, "pvc-2", &w);
    all = capacity(&f).available;
    assert_ok(v.pool->ops->allocate(&v, all, &err), err);
    assert_int_equal(unlink(place_path(&f, &v.id, "image")), 0);
    assert_fails(w.pool->ops->allocate(&w, MIB(20), &err), err, ERR_EXHAUSTED); /* just counted */
    text = tmpdir_read(&f.dir, "a/" FILE_LEDGER);
    at = strstr(text, "\"counted\":");
    assert_non_null(at);
    for (at += strlen("\"counted\":"); *at >= '0' && *at <= '9'; at++)
        *at = at[1] == ',' ? '0' : ' ';
    tmpdir_write(&f.dir, "a/" FILE_LEDGER, text, strlen(text));
    err = (struct error)ERROR_INIT;
    assert_ok(w.pool->ops->allocate(&w, MIB(20), &err), err);
    assert_int_equal(capacity(&f).promised, MIB(20));
}

/* The pool's setting changes: what is in it stays, a full pool fills an image when it next grows,
 * and the ledger is right all the time. */
static void test_switched(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT, w = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct pool_config *p = &f.pools[0];
    struct stat st;

    make_sparse(&f, 2);
    (void)snprintf(p->allocate, sizeof(p->allocate), "full");
    open_new(&f, "pvc-1", &v);
    assert_ok(v.pool->ops->allocate(&v, MIB(20), &err), err);
    assert_false(exists(tmpdir_path(&f.dir, "a/" FILE_LEDGER)));
    assert_int_equal(capacity(&f).promised, 0);
    (void)snprintf(p->allocate, sizeof(p->allocate), "sparse");
    assert_int_equal(capacity(&f).promised, MIB(20));
    open_new(&f, "pvc-2", &w);
    assert_ok(w.pool->ops->allocate(&w, MIB(20), &err), err);
    (void)snprintf(p->allocate, sizeof(p->allocate), "full");
    assert_ok(w.pool->ops->allocate(&w, MIB(20), &err), err);
    assert_int_equal(stat(place_path(&f, &w.id, "image"), &st), 0);
    assert_true((uint64_t)st.st_blocks * 512 >= MIB(20));
    assert_ok(v.pool->ops->allocate(&v, MIB(24), &err), err);
    assert_ok(w.pool->ops->remove(&w, &err), err);
    (void)snprintf(p->allocate, sizeof(p->allocate), "sparse");
    assert_int_equal(capacity(&f).promised, MIB(24));
}

static void test_look(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct pool_capacity c = { .total = 77 };

    make_sparse(&f, 2);
    assert_fails(f.set->pools[0]->ops->look(f.set->pools[0], &c, &err), err, ERR_UNAVAILABLE);
    assert_int_equal(c.total, 77);
    open_new(&f, "pvc-1", &v);
    err = (struct error)ERROR_INIT;
    assert_ok(v.pool->ops->allocate(&v, MIB(20), &err), err);
    assert_ok(v.pool->ops->look(f.set->pools[0], &c, &err), err);
    assert_int_equal(c.promised, MIB(20));
    assert_true(c.available > 0 && c.total > 77);
}

/* ---- many at once ---- */

struct worker {
    struct fixture *f;
    unsigned number;
    bool failed;
};

static void *make_and_remove(void *arg)
{
    struct worker *w = arg;

    for (unsigned i = 0; i < 20 && !w->failed; i++) {
        AUTO_VOLUME struct volume v = VOLUME_INIT;
        struct error err = ERROR_INIT;
        struct volume_id id;
        char name[32];

        (void)snprintf(name, sizeof(name), "pvc-%u-%u", w->number, i);
        volume_id_from_name("a", w->f->set->pools[0]->tag, name, &id);
        w->failed = volume_open(w->f->set->pools[0], &id, true, &v, &err) < 0 ||
                    v.pool->ops->allocate(&v, MIB(20), &err) < 0 ||
                    v.pool->ops->allocate(&v, MIB(21 + i), &err) < 0 ||
                    (i > 0 && v.pool->ops->remove(&v, &err) < 0);
    }
    return NULL;
}

static void test_many_at_once(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct worker workers[8];
    pthread_t threads[ARRAY_SIZE(workers)];

    make_sparse(&f, 2);
    for (size_t i = 0; i < ARRAY_SIZE(workers); i++) {
        workers[i] = (struct worker){ .f = &f, .number = (unsigned)i };
        assert_int_equal(pthread_create(&threads[i], NULL, make_and_remove, &workers[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(workers); i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_false(workers[i].failed);
    }
    assert_int_equal(capacity(&f).promised, ARRAY_SIZE(workers) * MIB(21));
}

#ifdef COFFER_FAULT

/* ---- SIGKILL on any line ---- */

struct life {
    struct fixture f;
    struct volume_id id;
    uint64_t target; /* 0: removal */
};

static int step(void *ctx)
{
    struct life *l = ctx;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;

    if (volume_open(l->f.set->pools[0], &l->id, true, &v, &err) < 0)
        return -1;
    return l->target > 0 ? v.pool->ops->allocate(&v, l->target, &err)
                         : v.pool->ops->remove(&v, &err);
}

static uint64_t image_size(const struct life *l)
{
    struct stat st;

    return stat(place_path(&l->f, &l->id, "image"), &st) < 0 ? 0 : (uint64_t)st.st_size;
}

static void before_create(void *ctx)
{
    struct life *l = ctx;

    fixture_release(&l->f);
    make_sparse(&l->f, 2);
    (void)fixture_volume(&l->f, 0, "other");
    l->id = fixture_id(&l->f, 0, "pvc-1");
}

static void before_change(void *ctx)
{
    struct life *l = ctx;

    before_create(l);
    l->id = fixture_volume(&l->f, 0, "pvc-1");
}

static void after(void *ctx)
{
    struct life *l = ctx;
    uint64_t left = image_size(l);

    assert_true(left == 0 || left == MIB(20) || left == l->target);
    assert_int_equal(capacity(&l->f).promised, MIB(20) + left);
    assert_int_equal(step(l), 0);
    assert_int_equal(image_size(l), l->target);
    assert_int_equal(capacity(&l->f).promised, MIB(20) + l->target);
    assert_int_equal(unlink(tmpdir_path(&l->f.dir, "a/" FILE_LEDGER)), 0);
    assert_int_equal(capacity(&l->f).promised, MIB(20) + l->target);
}

static void test_kill_sweep(void **state UNUSED)
{
    struct life l = { .f = FIXTURE_INIT, .target = MIB(20) };

    assert_true(sweep(before_create, step, after, &l) >= 6);
    l.target = MIB(40);
    assert_true(sweep(before_change, step, after, &l) >= 5);
    l.target = 0;
    assert_true(sweep(before_change, step, after, &l) >= 7);
    fixture_release(&l.f);
}

#endif

/* ---- little space ---- */

/* In a child with a file system of 100 MiB. 0, FIXTURE_NO_NAMESPACE, or what was wrong. */
static int low_on_space(void)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_TMPDIR struct tmpdir at = tmpdir_make();
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct pool_capacity c = { .total = 0 };
    int fd, r;

    if (namespace_enter_tmpfs(at.path, "size=100m") < 0)
        return FIXTURE_NO_NAMESPACE;
    make_sparse(&f, 2);
    open_new(&f, "pvc-1", &v);
    if (v.pool->ops->allocate(&v, MIB(20), &err) < 0)
        return 1;
    fd = open(tmpdir_path(&at, "other"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fallocate(fd, 0, 0, (off_t)MIB(40)) < 0)
        return 2;
    if (v.pool->ops->allocate(&v, MIB(21), &err) == 0 || err.code != ERR_EXHAUSTED ||
        strstr(err.msg, "below 64 MiB it makes no new promises") == NULL)
        return 3;
    if (v.pool->ops->allocate(&v, MIB(20), &err) < 0) /* what it has stays its own */
        return 4;
    if (v.pool->ops->capacity(v.pool, &c, &err) < 0 || c.available != 0 || c.promised != MIB(20))
        return 5;
    (void)close(fd);
    (void)unlink(tmpdir_path(&at, "other"));
    r = v.pool->ops->allocate(&v, MIB(21), &err) < 0 ? 6 : 0;
    volume_close(&v);
    fixture_release(&f);
    (void)umount2(at.path, MNT_DETACH);
    return r;
}

static void test_low_on_space(void **state UNUSED)
{
    pid_t child = fork();

    if (child == 0)
        _exit(low_on_space());
    fixture_demand_child(child);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reserve_and_room),
        cmocka_unit_test(test_allocate),
        cmocka_unit_test(test_ratio),
        cmocka_unit_test(test_removed_by_hand),
        cmocka_unit_test(test_switched),
        cmocka_unit_test(test_look),
        cmocka_unit_test(test_many_at_once),
#ifdef COFFER_FAULT
        cmocka_unit_test(test_kill_sweep),
#endif
        cmocka_unit_test(test_low_on_space),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

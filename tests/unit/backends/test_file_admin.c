/* SPDX-License-Identifier: Apache-2.0 */
/* What needs loop devices is skipped where there are none. */
#include "common/base.h"
#include "tests/support/skip.h"
#include "tests/unit/backends/fixture.h"

#include <linux/loop.h>
#include <sys/ioctl.h>

#define NEEDS_LOOPS()                                       \
    do {                                                    \
        if (access("/dev/loop-control", R_OK | W_OK) < 0) { \
            skip_because(SKIP_NO_LOOPS);                    \
            return;                                         \
        }                                                   \
    } while (0)

/* A loop that stays, as losetup makes it. The caller has it open. */
static int permanent_loop(const char *path, uint32_t flags, char ret_path[64])
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int image = open(path, O_RDWR | O_CLOEXEC);
    struct loop_config c = { .fd = (uint32_t)image, .info = { .lo_flags = flags } };
    int fd = -1;

    assert_true(control >= 0 && image >= 0);
    for (int i = 0; i < 100; i++) {
        (void)snprintf(ret_path, 64, "/dev/loop%d", ioctl(control, LOOP_CTL_GET_FREE));
        fd = open(ret_path, O_RDWR | O_CLOEXEC);
        if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &c) == 0)
            break;
        if (fd >= 0)
            (void)close(fd);
        fd = -1;
    }
    (void)close(image);
    (void)close(control);
    assert_true(fd >= 0);
    return fd;
}

static void test_locate(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct volume_id id, none;
    struct volume_where w;
    struct error err = ERROR_INIT;

    fixture_make(&f, 1);
    id = fixture_volume(&f, 0, "pvc-1");
    none = fixture_id(&f, 0, "pvc-2");
    const struct backend_ops *ops = f.set->pools[0]->ops;
    assert_ok(ops->locate(f.set->pools[0], &id, &w, &err), err);
    assert_string_equal(w.place, place_path(&f, &id, ""));
    assert_string_equal(w.data, place_path(&f, &id, "image"));
    assert_true(w.has_data);
    assert_int_equal(w.size, FIXTURE_SIZE + GEOMETRY_DATA_OFFSET);
    assert_true(w.allocated >= w.size);
    assert_int_equal(w.n_attachments, 0);
    assert_int_equal(unlink(place_path(&f, &id, "image")), 0);
    assert_ok(ops->locate(f.set->pools[0], &id, &w, &err), err);
    assert_false(w.has_data);
    assert_fails(ops->locate(f.set->pools[0], &none, &w, &err), err, ERR_NOT_FOUND);
}

static void test_peek_text(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(65536);
    struct volume_id id;
    struct error err = ERROR_INIT;

    fixture_make(&f, 1);
    id = fixture_volume(&f, 0, "pvc-1");
    const struct backend_ops *ops = f.set->pools[0]->ops;
    tmpdir_write(&f.dir, place_path(&f, &id, "record.json") + strlen(f.dir.path) + 1, "broken", 6);
    assert_ok(ops->peek_text(f.set->pools[0], &id, &text, &err), err);
    assert_string_equal(strbuf_text(&text), "broken");
    assert_int_equal(unlink(place_path(&f, &id, "record.json")), 0);
    assert_fails(ops->peek_text(f.set->pools[0], &id, &text, &err), err, ERR_NOT_FOUND);
}

static void test_replace_record(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct volume_id id, other;
    struct record r, now;
    struct error err = ERROR_INIT;

    fixture_make(&f, 1);
    id = fixture_volume(&f, 0, "pvc-1");
    other = fixture_id(&f, 0, "pvc-2");
    assert_ok(volume_open(f.set->pools[0], &id, false, &v, &err), err);
    assert_ok(v.pool->ops->read_record(&v, &r, &err), err);
    assert_int_equal(unlink(place_path(&f, &id, "record.json")), 0);
    r.gen = 40;
    assert_ok(v.pool->ops->replace_record(&v, &r, &err), err);
    assert_ok(v.pool->ops->read_record(&v, &now, &err), err);
    assert_int_equal(now.gen, 40);
    volume_id_format(&other, r.id);
    assert_fails(v.pool->ops->replace_record(&v, &r, &err), err, ERR_DATA_LOSS);
}

#ifdef COFFER_FAULT
struct replacing {
    struct fixture *f;
    struct volume_id id;
    struct record backup;
};

static void break_record(void *ctx)
{
    const struct replacing *x = ctx;

    tmpdir_write(&x->f->dir, place_path(x->f, &x->id, "record.json") + strlen(x->f->dir.path) + 1,
                 "broken", 6);
}

static int replace(void *ctx)
{
    struct replacing *x = ctx;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;

    return volume_open(x->f->set->pools[0], &x->id, false, &v, &err) < 0
               ? -1
               : v.pool->ops->replace_record(&v, &x->backup, &err);
}

/* Either the broken text or the whole record is there, and doing it again ends well. */
static void check_replaced(void *ctx)
{
    struct replacing *x = ctx;
    struct pool *pool = x->f->set->pools[0];
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(65536);
    struct record now;
    struct error err = ERROR_INIT;

    assert_ok(pool->ops->peek_text(pool, &x->id, &text, &err), err);
    if (strcmp(strbuf_text(&text), "broken") != 0)
        assert_ok(pool->ops->peek_record(pool, &x->id, &now, &err), err);
    assert_int_equal(replace(ctx), 0);
    assert_ok(pool->ops->peek_record(pool, &x->id, &now, &err), err);
    assert_int_equal(now.gen, x->backup.gen);
}

static void test_replace_is_killed_anywhere(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct replacing x = { .f = &f };
    struct error err = ERROR_INIT;

    fixture_make(&f, 1);
    x.id = fixture_volume(&f, 0, "pvc-1");
    assert_ok(f.set->pools[0]->ops->peek_record(f.set->pools[0], &x.id, &x.backup, &err), err);
    assert_true(sweep(break_record, replace, check_replaced, &x) >= 4);
}
#endif

/* ---- loops ---- */

struct seen {
    size_t n;
    struct volume_id id;
    struct attachment last;
};

static bool note(void *ctx, const struct volume_id *id, const struct attachment *a)
{
    struct seen *s = ctx;

    s->n++;
    s->id = *id;
    s->last = *a;
    return true;
}

static void test_attachments(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    AUTO_BLOCK_DEVICE struct block_device d = BLOCK_DEVICE_INIT;
    struct seen s = { .n = 0 }, other = { .n = 0 };
    struct volume_where w;
    struct volume_id id;
    struct error err = ERROR_INIT;
    char path[64];

    NEEDS_LOOPS();
    fixture_make(&f, 2);
    id = fixture_volume(&f, 0, "pvc-1");
    assert_ok(volume_open(f.set->pools[0], &id, false, &v, &err), err);
    const struct backend_ops *ops = v.pool->ops;
    assert_ok(ops->each_attachment(v.pool, note, &s, &err), err);
    assert_int_equal(s.n, 0);
    assert_ok(ops->attach(&v, &d, &err), err);
    assert_ok(ops->each_attachment(v.pool, note, &s, &err), err);
    assert_ok(ops->each_attachment(f.set->pools[1], note, &other, &err), err);
    assert_int_equal(s.n, 1);
    assert_int_equal(other.n, 0);
    assert_string_equal(s.id.hash, id.hash);
    assert_true(s.last.dev == d.dev && s.last.ours);
    block_device_close(&d);

    /* one that somebody made by hand, known by its path */
    s.n = 0;
    int fd = permanent_loop(place_path(&f, &id, "image"), LO_FLAGS_READ_ONLY, path);
    assert_ok(ops->each_attachment(v.pool, note, &s, &err), err);
    assert_int_equal(s.n, 1);
    assert_string_equal(s.last.path, path);
    assert_false(s.last.ours);
    assert_ok(ops->locate(v.pool, &id, &w, &err), err);
    assert_int_equal(w.n_attachments, 1);
    assert_string_equal(w.attachments[0].path, path);
    assert_fails(ops->detach(&v, s.last.dev, &err), err, ERR_PRECONDITION);
    assert_int_equal(ioctl(fd, LOOP_CLR_FD, 0), 0);
    (void)close(fd);
    assert_true(is_cleared(s.last.dev));
}

static void test_detach(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct volume_id id;
    struct stat st;
    struct error err = ERROR_INIT;
    char path[64];

    NEEDS_LOOPS();
    fixture_make(&f, 1);
    id = fixture_volume(&f, 0, "pvc-1");
    assert_ok(volume_open(f.set->pools[0], &id, false, &v, &err), err);
    int fd = permanent_loop(place_path(&f, &id, "image"), 0, path);
    assert_int_equal(fstat(fd, &st), 0);
    (void)close(fd);
    assert_true(is_attached(st.st_rdev));

    /* claimed, as a mount or a mapping does */
    fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_fails(v.pool->ops->detach(&v, st.st_rdev, &err), err, ERR_ABORTED);
    assert_true(is_attached(st.st_rdev));
    (void)close(fd);
    err = (struct error)ERROR_INIT;
    assert_ok(v.pool->ops->detach(&v, st.st_rdev, &err), err);
    assert_true(is_cleared(st.st_rdev));
    assert_ok(v.pool->ops->detach(&v, st.st_rdev, &err), err); /* gone already */
}

static void test_probe(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct pool_probe p;
    struct error err = ERROR_INIT;

    fixture_make(&f, 1);
    assert_ok(f.set->pools[0]->ops->probe(f.set->pools[0], &p, &err), err);
    assert_true(p.fs[0] != '\0');
    assert_true(p.tried || p.problem[0] != '\0');
    assert_int_equal(unlink(tmpdir_path(&f.dir, "a/pool.json")), 0);
    assert_fails(f.set->pools[0]->ops->probe(f.set->pools[0], &p, &err), err, ERR_UNAVAILABLE);
}

static void test_settle(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct error err = ERROR_INIT;
    AUTO_FREE char *away = NULL;
    struct pool *pool;

    fixture_make(&f, 1);
    pool = f.set->pools[0];
    assert_ok(pool->ops->settle(pool, &err), err);
    assert_true(asprintf(&away, "%s.away", pool->config->path) > 0);
    assert_int_equal(rename(pool->config->path, away), 0);
    assert_fails(pool->ops->settle(pool, &err), err, ERR_UNAVAILABLE);
    assert_int_equal(rename(away, pool->config->path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settle),
        cmocka_unit_test(test_locate),
        cmocka_unit_test(test_peek_text),
        cmocka_unit_test(test_replace_record),
#ifdef COFFER_FAULT
        cmocka_unit_test(test_replace_is_killed_anywhere),
#endif
        cmocka_unit_test(test_attachments),
        cmocka_unit_test(test_detach),
        cmocka_unit_test(test_probe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

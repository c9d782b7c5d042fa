/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What list_records shows is what peek_record would say of each volume, in every state of the
 * memory. A record is remembered only when it is FILE_CACHE_SETTLE seconds old, so `warm` waits.
 */
#include "common/base.h"
#include "backends/file.h"
#include "backends/file_cache.h"
#include "common/deadline.h"
#include "tests/unit/backends/fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/inotify.h>
#include <time.h>

#define WAIT_TRIES 600
#define WAIT_MS    100

struct listed {
    struct pool *pool;
    char texts[64][VOLUME_ID_MAX + 1];
    size_t n, at, unreadable;
};

static bool add_id(void *ctx, const char *id)
{
    struct listed *l = ctx;

    assert_true(l->n < ARRAY_SIZE(l->texts));
    assert_int_equal(str_copy(l->texts[l->n++], sizeof(l->texts[0]), id), 0);
    return true;
}

static bool compare(void *ctx, const char *id, const struct record_summary *summary,
                    const struct error *problem)
{
    struct listed *l = ctx;
    struct error err = ERROR_INIT;
    struct volume_id parsed;
    struct record r;

    assert_true(l->at < l->n);
    assert_string_equal(id, l->texts[l->at++]);
    assert_ok(volume_id_parse(id, &parsed, &err), err);
    if (l->pool->ops->peek_record(l->pool, &parsed, &r, &err) < 0) {
        l->unreadable++;
        assert_null(summary);
        assert_int_equal(problem->code, err.code);
        assert_string_equal(problem->msg, err.msg);
        return true;
    }
    assert_non_null(summary);
    assert_null(problem);
    assert_int_equal(summary->size, r.size);
    assert_int_equal(summary->state, r.state);
    assert_int_equal(summary->discard, r.discard);
    assert_int_equal(summary->pod, r.pod);
    assert_string_equal(summary->uuid, r.uuid);
    assert_string_equal(summary->tenant, r.tenant);
    assert_string_equal(summary->kms, r.kms);
    assert_string_equal(summary->key_source, r.key_source);
    return true;
}

/* How many are listed; *ret_unreadable (may be NULL): of them without a summary. */
static size_t check_list(struct fixture *f, size_t *ret_unreadable)
{
    static struct listed l;
    struct error err = ERROR_INIT;

    memset(&l, 0, sizeof(l));
    l.pool = f->set->pools[0];
    assert_ok(l.pool->ops->list(l.pool, "", add_id, &l, &err), err);
    assert_ok(l.pool->ops->list_records(l.pool, "", compare, &l, &err), err);
    assert_int_equal(l.at, l.n);
    if (ret_unreadable != NULL)
        *ret_unreadable = l.unreadable;
    return l.n;
}

/* Until that many are remembered. */
static void warm(struct fixture *f, size_t n)
{
    for (int i = 0; i < WAIT_TRIES; i++) {
        (void)check_list(f, NULL);
        if (file_cache_records(f->set->pools[0]) == n)
            return;
        sleep_ms(WAIT_MS);
    }
    fail_msg("%zu records are remembered, not %zu", file_cache_records(f->set->pools[0]), n);
}

static struct record record_of(struct fixture *f, const struct volume_id *id)
{
    struct error err = ERROR_INIT;
    struct record r;

    assert_ok(f->set->pools[0]->ops->peek_record(f->set->pools[0], id, &r, &err), err);
    return r;
}

static void set_size(struct fixture *f, const struct volume_id *id, uint64_t size)
{
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct record r;

    assert_ok(volume_open(f->set->pools[0], id, false, &v, &err), err);
    assert_ok(v.pool->ops->read_record(&v, &r, &err), err);
    r.size = size;
    assert_ok(v.pool->ops->write_record(&v, &r, &err), err);
}

/* The same number of bytes, in place. */
static void edit_in_place(struct fixture *f, const struct volume_id *id, const char *from,
                          const char *to)
{
    AUTO_CLOSE int fd = open(place_path(f, id, "record.json"), O_RDWR | O_CLOEXEC);
    char text[RECORD_MAX + 1];
    ssize_t n = read(fd, text, RECORD_MAX);
    const char *at;

    assert_true(n > 0);
    text[n] = '\0';
    at = strstr(text, from);
    assert_non_null(at);
    assert_int_equal(strlen(from), strlen(to));
    assert_int_equal(pwrite(fd, to, strlen(to), at - text), strlen(to));
}

static void remove_volume(struct fixture *f, const struct volume_id *id)
{
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;

    assert_ok(volume_open(f->set->pools[0], id, false, &v, &err), err);
    assert_ok(v.pool->ops->remove(&v, &err), err);
}

static void test_nothing_before_the_first_list(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct volume_id id;

    fixture_make(&f, 1);
    assert_int_equal(check_list(&f, NULL), 0); /* no volume yet */
    pool_set_free(f.set);
    assert_int_equal(pool_set_open(&f.config, &f.set, NULL), 0);
    id = fixture_volume(&f, 0, "pvc-1");
    (void)record_of(&f, &id);
    assert_null(((struct file_pool *)f.set->pools[0]->priv)->cache);
    assert_int_equal(file_cache_bytes(f.set->pools[0]), 0);
    assert_int_equal(check_list(&f, NULL), 1);
}

static bool count(void *ctx, const char *id UNUSED, const struct record_summary *summary,
                  const struct error *problem UNUSED)
{
    *(size_t *)ctx += summary != NULL;
    return true;
}

static bool was_opened(int notify)
{
    _Alignas(struct inotify_event) char events[4096];
    bool any = false;

    while (read(notify, events, sizeof(events)) > 0)
        any = true;
    return any;
}

static void test_unchanged_is_not_opened(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_CLOSE int notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    struct error err = ERROR_INIT;
    struct volume_id id;
    struct pool *pool;
    size_t n = 0;

    fixture_make(&f, 1);
    pool = f.set->pools[0];
    id = fixture_volume(&f, 0, "pvc-1");
    (void)fixture_volume(&f, 0, "pvc-2");
    warm(&f, 2);
    assert_true(inotify_add_watch(notify, place_path(&f, &id, "record.json"), IN_OPEN) >= 0);
    assert_ok(pool->ops->list_records(pool, "", count, &n, &err), err);
    assert_int_equal(n, 2);
    assert_false(was_opened(notify));
    /* everything else reads it */
    (void)record_of(&f, &id);
    assert_true(was_opened(notify));
    {
        AUTO_VOLUME struct volume v = VOLUME_INIT;
        struct record r;

        assert_ok(volume_open(pool, &id, false, &v, &err), err);
        assert_ok(pool->ops->read_record(&v, &r, &err), err);
        assert_true(was_opened(notify));
    }
}

static void test_changes_show_at_once(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct volume_id a, b;
    size_t bad = 0;
    char before[37];

    fixture_make(&f, 1);
    a = fixture_volume(&f, 0, "pvc-1");
    b = fixture_volume(&f, 0, "pvc-2");
    warm(&f, 2);
    set_size(&f, &a, MIB(17));
    assert_int_equal(check_list(&f, NULL), 2);
    edit_in_place(&f, &b, "16777216", "17825792");
    assert_int_equal(check_list(&f, &bad), 2);
    assert_int_equal(record_of(&f, &b).size, MIB(17));
    assert_int_equal(bad, 0);
    /* gone, and the volume made again under its name */
    (void)snprintf(before, sizeof(before), "%s", record_of(&f, &a).uuid);
    remove_volume(&f, &a);
    assert_int_equal(check_list(&f, NULL), 1);
    (void)fixture_volume(&f, 0, "pvc-1");
    (void)fixture_volume(&f, 0, "pvc-3");
    assert_int_equal(check_list(&f, NULL), 3);
    assert_string_not_equal(record_of(&f, &a).uuid, before);
    warm(&f, 3);
}

static void test_damage_shows_at_once(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct volume_id a, b, c;
    size_t bad = 0;

    fixture_make(&f, 1);
    a = fixture_volume(&f, 0, "pvc-1");
    b = fixture_volume(&f, 0, "pvc-2");
    c = fixture_volume(&f, 0, "pvc-3");
    warm(&f, 3);
    edit_in_place(&f, &a, "{\"", "{x");
    assert_int_equal(check_list(&f, &bad), 3);
    assert_int_equal(bad, 1);
    edit_in_place(&f, &a, "{x", "{\"");
    assert_int_equal(truncate(place_path(&f, &b, "record.json"), 3), 0);
    assert_int_equal(check_list(&f, &bad), 3);
    assert_int_equal(bad, 1);
    /* another volume's record; then none beside an image; then none at all */
    assert_int_equal(rename(place_path(&f, &c, "record.json"), place_path(&f, &b, "record.json")),
                     0);
    assert_int_equal(check_list(&f, &bad), 3);
    assert_int_equal(bad, 2);
    assert_int_equal(unlink(place_path(&f, &c, "image")), 0);
    assert_int_equal(check_list(&f, &bad), 3);
    assert_int_equal(bad, 2);
    /* what can't be read is not remembered */
    warm(&f, 1);
    assert_int_equal(symlink("/none", place_path(&f, &c, "record.json")), 0);
    assert_int_equal(check_list(&f, &bad), 3);
    assert_int_equal(bad, 2);
}

/* The record is the same file, but it isn't reached as it must be. */
static void test_links_on_the_way(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct error err = ERROR_INIT;
    struct pool *pool;
    struct volume_id id;
    char place[4096], shard[4096];
    size_t bad = 0, n = 0;

    fixture_make(&f, 1);
    pool = f.set->pools[0];
    id = fixture_volume(&f, 0, "pvc-1");
    warm(&f, 1);
    (void)snprintf(place, sizeof(place), "%s", place_path(&f, &id, ""));
    (void)snprintf(shard, sizeof(shard), "%s/a/volumes/%.2s", f.dir.path, id.hash);
    assert_int_equal(rename(place, tmpdir_path(&f.dir, "moved")), 0);
    assert_int_equal(symlink(tmpdir_path(&f.dir, "moved"), place), 0);
    assert_int_equal(check_list(&f, &bad), 1);
    assert_int_equal(bad, 1);
    assert_int_equal(unlink(place), 0);
    assert_int_equal(rename(tmpdir_path(&f.dir, "moved"), place), 0);
    assert_int_equal(check_list(&f, &bad), 1);
    assert_int_equal(bad, 0);
    warm(&f, 1);
    assert_int_equal(rename(shard, tmpdir_path(&f.dir, "moved")), 0);
    assert_int_equal(symlink(tmpdir_path(&f.dir, "moved"), shard), 0);
    assert_int_equal(pool->ops->list_records(pool, "", count, &n, &err), -1);
    assert_int_equal(unlink(shard), 0);
    assert_int_equal(check_list(&f, NULL), 0);
    assert_int_equal(file_cache_bytes(pool), 0);
}

static int64_t now_seconds(void)
{
    struct timespec now;

    assert_int_equal(clock_gettime(CLOCK_REALTIME, &now), 0);
    return now.tv_sec;
}

/* Two writes in one tick of the file system's clock, of one size and in place, differ in nothing
 * that a stat shows. */
static void test_fresh_is_not_remembered(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct volume_id id;
    unsigned looked = 0;

    fixture_make(&f, 1);
    id = fixture_volume(&f, 0, "pvc-1");
    for (int i = 0; i < 200; i++) {
        int64_t before = now_seconds();

        edit_in_place(&f, &id, i % 2 == 0 ? "16777216" : "17825792",
                      i % 2 == 0 ? "17825792" : "16777216");
        (void)check_list(&f, NULL);
        if (now_seconds() - before < FILE_CACHE_SETTLE) {
            assert_int_equal(file_cache_records(f.set->pools[0]), 0);
            looked++;
        }
    }
    assert_true(looked > 0);
}

static void test_bounded(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct file_pool *priv;
    size_t one, all;

    fixture_make(&f, 1);
    priv = f.set->pools[0]->priv;
    for (unsigned i = 0; i < 20; i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "pvc-%u", i);
        (void)fixture_volume(&f, 0, name);
    }
    warm(&f, 20);
    all = file_cache_bytes(f.set->pools[0]);
    one = all / 20;
    assert_true(one > 100 && one < 250); /* what file_cache.h promises for FILE_CACHE_MAX */
    priv->cache_max = all / 2;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(check_list(&f, NULL), 20);
        assert_true(file_cache_bytes(f.set->pools[0]) <= all / 2);
    }
    assert_true(file_cache_records(f.set->pools[0]) > 0);
    priv->cache_max = 0;
    assert_int_equal(check_list(&f, NULL), 20);
    assert_int_equal(file_cache_bytes(f.set->pools[0]), 0);
    priv->cache_max = all;
    warm(&f, 20);
}

static bool stop_at_two(void *ctx, const char *id, const struct record_summary *summary UNUSED,
                        const struct error *problem UNUSED)
{
    struct listed *l = ctx;

    (void)add_id(l, id);
    return l->n % 2 != 0;
}

static void test_pages(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    static struct listed all, pages;
    struct error err = ERROR_INIT;
    struct pool *pool;

    fixture_make(&f, 1);
    pool = f.set->pools[0];
    for (unsigned i = 0; i < 40; i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "pvc-%u", i);
        (void)fixture_volume(&f, 0, name);
    }
    memset(&all, 0, sizeof(all));
    memset(&pages, 0, sizeof(pages));
    assert_ok(pool->ops->list(pool, "", add_id, &all, &err), err);
    for (size_t i = 0; i < 20; i++)
        assert_ok(pool->ops->list_records(pool, i == 0 ? "" : pages.texts[pages.n - 1], stop_at_two,
                                          &pages, &err),
                  err);
    assert_int_equal(pages.n, 40);
    assert_memory_equal(pages.texts, all.texts, sizeof(all.texts));
    assert_ok(pool->ops->list_records(pool, all.texts[39], stop_at_two, &pages, &err), err);
    assert_ok(pool->ops->list_records(pool, "b", stop_at_two, &pages, &err), err);
    assert_int_equal(pages.n, 40);
}

struct racers {
    struct pool *pool;
    atomic_bool done;
};

static bool right_text(void *ctx, const char *id UNUSED, const struct record_summary *summary,
                       const struct error *problem UNUSED)
{
    if (summary != NULL && (strcmp(summary->tenant, "lab") != 0 || strlen(summary->uuid) != 36 ||
                            (summary->size != FIXTURE_SIZE && summary->size != MIB(17))))
        *(bool *)ctx = false;
    return true;
}

static void *list_again_and_again(void *ctx)
{
    struct racers *r = ctx;
    bool right = true;

    do {
        if (r->pool->ops->list_records(r->pool, "", right_text, &right, NULL) < 0)
            right = false;
    } while (right && !atomic_load(&r->done));
    return right ? r : NULL;
}

static void test_threads(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct racers r = { .done = false };
    pthread_t threads[3];
    struct volume_id a, b;
    void *right;

    fixture_make(&f, 1);
    r.pool = f.set->pools[0];
    a = fixture_volume(&f, 0, "pvc-1");
    b = fixture_volume(&f, 0, "pvc-2");
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, list_again_and_again, &r), 0);
    warm(&f, 2);
    for (int i = 0; i < 50; i++) {
        set_size(&f, &a, i % 2 == 0 ? MIB(17) : FIXTURE_SIZE);
        remove_volume(&f, &b);
        b = fixture_volume(&f, 0, "pvc-2");
    }
    atomic_store(&r.done, true);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        assert_int_equal(pthread_join(threads[i], &right), 0);
        assert_non_null(right);
    }
    assert_int_equal(check_list(&f, NULL), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_before_the_first_list),
        cmocka_unit_test(test_unchanged_is_not_opened),
        cmocka_unit_test(test_changes_show_at_once),
        cmocka_unit_test(test_damage_shows_at_once),
        cmocka_unit_test(test_links_on_the_way),
        cmocka_unit_test(test_fresh_is_not_remembered),
        cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

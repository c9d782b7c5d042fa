/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "tests/unit/backends/fixture.h"
#include "tests/support/nomem.h"
#include "tests/support/skip.h"

#include "backends/file.h"
#include "backends/file_ledger.h"
#include "common/deadline.h"

#include <pthread.h>
#include <sys/file.h>

#define BOOT "123e4567-e89b-42d3-a456-426614174000"
#define HASH "0123456789abcdef0123456789abcdef"
#define WHOLE                                                                        \
    "{\"v\":1,\"boot\":\"" BOOT "\",\"promised\":5,\"counted\":7,\"volume\":\"" HASH \
    "\",\"from\":5}"

static struct fixture *made(struct fixture *f)
{
    fixture_make(f, 1);
    (void)snprintf(f->pools[0].allocate, sizeof(f->pools[0].allocate), "sparse");
    f->pools[0].overcommit = 2;
    return f;
}

static int root_of(const struct fixture *f)
{
    int fd = open(tmpdir_path(&f->dir, "a"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

/* What the ledger says after everybody who looks has finished it. */
static uint64_t promised(struct fixture *f)
{
    AUTO_CLOSE int root = root_of(f);
    AUTO_FILE_LEDGER struct file_ledger l = FILE_LEDGER_INIT;
    struct error err = ERROR_INIT;

    assert_ok(file_ledger_open(f->set->pools[0], root, true, &l, &err), err);
    assert_true(l.live);
    return l.promised;
}

static void write_text(const struct fixture *f, const char *text)
{
    tmpdir_write(&f->dir, "a/" FILE_LEDGER, text, strlen(text));
}

static void test_text(void **state UNUSED)
{
    static const char *const bad[] = {
        "",
        "{}",
        "{\"v\":2,\"boot\":\"" BOOT "\",\"promised\":5,\"counted\":7,\"volume\":\"\",\"from\":0}",
        "{\"v\":1,\"boot\":\"" BOOT "\",\"promised\":5,\"counted\":7,\"volume\":\"x\",\"from\":0}",
        "{\"v\":1,\"boot\":\"" BOOT "\",\"promised\":5,\"counted\":7,\"volume\":\"\",\"from\":6}",
        "{\"v\":1,\"boot\":\"" BOOT "\",\"promised\":-5,\"counted\":7,\"volume\":\"\",\"from\":0}",
        "{\"v\":1,\"boot\":\"" BOOT "\",\"promised\":5,\"counted\":7,\"volume\":\"\"}",
        "{\"v\":1,\"boot\":\"" BOOT
        "\",\"promised\":5,\"counted\":7,\"volume\":\"\",\"from\":0,\"x\":1}",
    };
    struct file_ledger_text t = { .promised = 99 };
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_fails(file_ledger_decode(bad[i], strlen(bad[i]), BOOT, &t, &err), err,
                     ERR_DATA_LOSS);
    assert_fails(file_ledger_decode(WHOLE, strlen(WHOLE), "another", &t, &err), err, ERR_DATA_LOSS);
    assert_int_equal(t.promised, 99);
    assert_ok(file_ledger_decode(WHOLE " \n", strlen(WHOLE) + 2, BOOT, &t, &err), err);
    assert_int_equal(t.promised, 5);
    assert_int_equal(t.counted, 7);
    assert_int_equal(t.from, 5);
    assert_string_equal(t.volume, HASH);
}

/* None, an empty one, another boot's, nonsense: the images are counted. */
static void test_counts(void **state UNUSED)
{
    static const char *const texts[] = { "", WHOLE, "{}", "x" };
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_CLOSE int root = -1;
    uint64_t sum = 0;

    root = root_of(made(&f));
    assert_int_equal(file_ledger_look(root, &sum, NULL), -1);
    assert_int_equal(promised(&f), 0);
    (void)fixture_volume(&f, 0, "pvc-1");
    (void)fixture_volume(&f, 0, "pvc-2");
    assert_int_equal(promised(&f), 2 * MIB(20));
    assert_int_equal(unlink(tmpdir_path(&f.dir, "a/" FILE_LEDGER)), 0);
    assert_int_equal(promised(&f), 2 * MIB(20));
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        write_text(&f, texts[i]);
        assert_int_equal(file_ledger_look(root, &sum, NULL), -1);
        assert_int_equal(promised(&f), 2 * MIB(20));
        assert_int_equal(file_ledger_look(root, &sum, NULL), 0);
        assert_int_equal(sum, 2 * MIB(20));
    }
}

/* A change that was begun and never ended: the image says what came of it. */
static void test_finishes_what_was_begun(void **state UNUSED)
{
    static const uint64_t sizes[] = { MIB(20), MIB(64), 0 }; /* not made, made, removed */
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
        AUTO_FILE_LEDGER struct file_ledger l = FILE_LEDGER_INIT;
        AUTO_CLOSE int root = -1;
        struct volume_id id;

        root = root_of(made(&f));
        id = fixture_volume(&f, 0, "pvc-1");
        (void)fixture_volume(&f, 0, "pvc-2");
        assert_ok(file_ledger_open(f.set->pools[0], root, true, &l, &err), err);
        assert_ok(file_ledger_begin(&l, id.hash, MIB(20), &err), err);
        if (sizes[i] > 0)
            assert_int_equal(truncate(place_path(&f, &id, "image"), (off_t)sizes[i]), 0);
        else
            assert_int_equal(unlink(place_path(&f, &id, "image")), 0);
        file_ledger_close(&l);
        assert_int_equal(promised(&f), MIB(20) + sizes[i]);
        assert_int_equal(promised(&f), MIB(20) + sizes[i]);
    }
}

/* Removal and full pools: a ledger that isn't there isn't made, one of another boot stays so. */
static void test_without_counting(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_FILE_LEDGER struct file_ledger l = FILE_LEDGER_INIT;
    AUTO_CLOSE int root = -1;
    AUTO_FREE char *text = NULL;
    struct error err = ERROR_INIT;

    root = root_of(made(&f));
    assert_ok(file_ledger_open(f.set->pools[0], root, false, &l, &err), err);
    assert_int_equal(l.fd, -1);
    assert_ok(file_ledger_begin(&l, HASH, 0, &err), err);
    assert_ok(file_ledger_end(&l, 0, MIB(20), &err), err);
    assert_ok(file_ledger_void(&l, &err), err);
    assert_false(exists(tmpdir_path(&f.dir, "a/" FILE_LEDGER)));
    write_text(&f, WHOLE);
    assert_ok(file_ledger_open(f.set->pools[0], root, false, &l, &err), err);
    assert_true(l.fd >= 0 && !l.live);
    assert_ok(file_ledger_begin(&l, HASH, 0, &err), err);
    assert_ok(file_ledger_end(&l, 0, MIB(20), &err), err);
    file_ledger_close(&l);
    text = tmpdir_read(&f.dir, "a/" FILE_LEDGER);
    assert_string_equal(text, WHOLE);
}

/* A ledger that can't be read isn't one that nobody believes: what was removed meanwhile would stay
 * promised. */
static void test_unreadable(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_CLOSE int root = -1;
    bool happened = true;

    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    root = root_of(made(&f));
    for (unsigned int n = 1; happened; n++) {
        AUTO_FILE_LEDGER struct file_ledger l = FILE_LEDGER_INIT;
        struct error err = ERROR_INIT;

        tmpdir_write(&f.dir, "a/" FILE_LEDGER, "", 0);
        assert_int_equal(promised(&f), 0);
        nomem_arm(n);
        int rc = file_ledger_open(f.set->pools[0], root, false, &l, &err);
        happened = nomem_disarm();
        if (rc < 0)
            continue;
        assert_ok(file_ledger_begin(&l, HASH, 0, &err), err);
        assert_ok(file_ledger_end(&l, 0, MIB(20), &err), err);
        if (l.live)
            continue;
        AUTO_FREE char *text = tmpdir_read(&f.dir, "a/" FILE_LEDGER);
        assert_string_equal(text, ""); /* so it is counted anew */
    }
}

static void test_void(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_FILE_LEDGER struct file_ledger l = FILE_LEDGER_INIT;
    AUTO_CLOSE int root = -1;
    struct error err = ERROR_INIT;
    uint64_t sum = 0;

    root = root_of(made(&f));
    assert_ok(file_ledger_open(f.set->pools[0], root, true, &l, &err), err);
    assert_ok(file_ledger_void(&l, &err), err);
    assert_ok(file_ledger_end(&l, 0, GIB(1), &err), err);
    file_ledger_close(&l);
    assert_int_equal(file_ledger_look(root, &sum, NULL), -1);
    assert_int_equal(promised(&f), 0);
}

/* Images that went away by hand are seen, but not looked for each time. */
static void test_recount(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_FILE_LEDGER struct file_ledger l = FILE_LEDGER_INIT;
    AUTO_CLOSE int root = -1;
    struct error err = ERROR_INIT;
    struct volume_id id;
    bool changed = true;

    root = root_of(made(&f));
    id = fixture_volume(&f, 0, "pvc-1");
    assert_int_equal(unlink(place_path(&f, &id, "image")), 0);
    assert_ok(file_ledger_open(f.set->pools[0], root, true, &l, &err), err);
    assert_ok(file_ledger_recount(&l, &changed, &err), err);
    assert_false(changed);
    assert_int_equal(l.promised, MIB(20));
    l.counted -= 60;
    assert_ok(file_ledger_recount(&l, &changed, &err), err);
    assert_true(changed);
    assert_int_equal(l.promised, 0);
    l.counted = UINT64_MAX; /* somebody's nonsense is no excuse for ever */
    assert_ok(file_ledger_recount(&l, &changed, &err), err);
    assert_false(changed);
    assert_true(l.counted < UINT64_MAX);
}

static void *let_go(void *arg)
{
    int *fd = arg;

    sleep_ms(100);
    (void)close(*fd);
    return NULL;
}

static void test_waits_for_its_turn(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_CLOSE int root = -1;
    uint64_t sum = 0;
    pthread_t thread;
    int held;

    root = root_of(made(&f));
    assert_int_equal(promised(&f), 0);
    held = open(tmpdir_path(&f.dir, "a/" FILE_LEDGER), O_RDWR | O_CLOEXEC);
    assert_true(held >= 0);
    assert_int_equal(flock(held, LOCK_EX | LOCK_NB), 0);
    assert_int_equal(file_ledger_look(root, &sum, NULL), -1); /* doesn't wait that long */
    assert_int_equal(pthread_create(&thread, NULL, let_go, &held), 0);
    assert_int_equal(promised(&f), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

/* Whoever waits for a ledger that is removed meanwhile must not book into the removed one. */
static void test_removed_meanwhile(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_CLOSE int root = -1;
    uint64_t sum = 0;
    pthread_t thread;
    int held;

    root = root_of(made(&f));
    assert_int_equal(promised(&f), 0);
    held = open(tmpdir_path(&f.dir, "a/" FILE_LEDGER), O_RDWR | O_CLOEXEC);
    assert_true(held >= 0);
    assert_int_equal(flock(held, LOCK_EX | LOCK_NB), 0);
    assert_int_equal(pthread_create(&thread, NULL, let_go, &held), 0);
    sleep_ms(20);
    assert_int_equal(unlink(tmpdir_path(&f.dir, "a/" FILE_LEDGER)), 0);
    assert_int_equal(promised(&f), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(file_ledger_look(root, &sum, NULL), 0);
}

static void test_must_be_a_file(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_FILE_LEDGER struct file_ledger l = FILE_LEDGER_INIT;
    AUTO_CLOSE int root = -1;
    struct error err = ERROR_INIT;

    root = root_of(made(&f));
    tmpdir_write(&f.dir, "victim", "x", 1);
    assert_int_equal(symlink(tmpdir_path(&f.dir, "victim"), tmpdir_path(&f.dir, "a/" FILE_LEDGER)),
                     0);
    assert_fails(file_ledger_open(f.set->pools[0], root, true, &l, &err), err, ERR_DATA_LOSS);
    assert_non_null(strstr(err.msg, "pool 'a'"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_finishes_what_was_begun),
        cmocka_unit_test(test_without_counting),
        cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_void),
        cmocka_unit_test(test_recount),
        cmocka_unit_test(test_waits_for_its_turn),
        cmocka_unit_test(test_removed_meanwhile),
        cmocka_unit_test(test_must_be_a_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

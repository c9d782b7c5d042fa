/* SPDX-License-Identifier: Apache-2.0 */
/* One line per crossing, whatever a pool hovers around. */
#include "common/base.h"
#include "tests/unit/backends/fixture.h"

#include "common/log.h"

static struct tmpdir logs = { .path = "", .fd = -1 };
static int old_stderr = -1;

static unsigned count_lines(const char *word)
{
    AUTO_FREE char *text = tmpdir_read(&logs, "log");
    unsigned n = 0;

    for (const char *p = text; (p = strstr(p, word)) != NULL; p++)
        n++;
    return n;
}

static unsigned at(struct pool *pool, unsigned percent)
{
    atomic_store(&pool->used, GIB(percent));
    atomic_store(&pool->free, GIB(100 - percent));
    return pool_watch(pool);
}

static void test_crossings(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct pool *pool;

    fixture_make(&f, 1);
    pool = f.set->pools[0];
    assert_int_equal(at(pool, 79), 0);
    assert_int_equal(count_lines("\n") + count_lines("filling"), 0);
    assert_int_equal(at(pool, 80), 1);
    assert_int_equal(at(pool, 79), 1); /* hovering is no crossing */
    assert_int_equal(at(pool, 80), 1);
    assert_int_equal(at(pool, 94), 1);
    assert_int_equal(count_lines("a pool is filling up"), 1);
    assert_int_equal(at(pool, 96), 2);
    assert_int_equal(at(pool, 93), 2);
    assert_int_equal(at(pool, 100), 2);
    assert_int_equal(count_lines("a pool is filling up"), 2);
    assert_int_equal(count_lines("threshold=95"), 1);
    assert_int_equal(at(pool, 92), 1);
    assert_int_equal(at(pool, 10), 0);
    assert_int_equal(count_lines("a pool has space again"), 2);
    assert_int_equal(at(pool, 99), 2); /* two at once are one line */
    assert_int_equal(count_lines("a pool is filling up"), 3);
}

static void test_empty_figures(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct error err = ERROR_INIT;
    struct pool *pool;

    fixture_make(&f, 1);
    pool = f.set->pools[0];
    atomic_store(&pool->used, 0);
    atomic_store(&pool->free, 0);
    assert_int_equal(pool_watch(pool), 0);
    assert_ok(pool_ready(pool, &err), err);
    assert_true(atomic_load(&pool->used) + atomic_load(&pool->free) > 0);
}

static void test_counters(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;

    fixture_make(&f, 2);
    assert_int_equal(rename(tmpdir_path(&f.dir, "b"), tmpdir_path(&f.dir, "away")), 0);
    pool_set_log_counters(f.set);
    assert_int_equal(count_lines("\"pool\" pool=\"a\" allocate=\"full\""), 1);
    assert_int_equal(count_lines("available_mib="), 1);
    assert_int_equal(count_lines("\"pool\" pool=\"b\" error="), 1);
    assert_int_equal(count_lines("\"pools\" pools=2 over_80_percent="), 1);
}

static int to_file(void **state UNUSED)
{
    int fd;

    old_stderr = dup(STDERR_FILENO);
    logs = tmpdir_make();
    tmpdir_write(&logs, "log", "", 0);
    fd = open(tmpdir_path(&logs, "log"), O_WRONLY | O_APPEND | O_CLOEXEC);
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    return fd < 0 || dup2(fd, STDERR_FILENO) < 0 || close(fd) < 0 ? -1 : 0;
}

static int done(void **state UNUSED)
{
    tmpdir_remove(&logs);
    return dup2(old_stderr, STDERR_FILENO) < 0 || close(old_stderr) < 0 ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_crossings, to_file, done),
        cmocka_unit_test_setup_teardown(test_empty_figures, to_file, done),
        cmocka_unit_test_setup_teardown(test_counters, to_file, done),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

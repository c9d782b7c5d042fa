/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "tests/unit/backends/fixture.h"

#include "backends/sampler.h"

static void write_all(struct pool_sampler *s, struct strbuf *text)
{
    struct metrics m = { .text = text };

    strbuf_clear(text);
    pool_sampler_write(s, &m);
}

static bool has(const struct strbuf *text, const char *line)
{
    return strstr(strbuf_text(text), line) != NULL;
}

static void test_nothing_before_a_round(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(METRICS_MAX);
    struct error err = ERROR_INIT;
    struct pool_sampler *s;

    fixture_make(&f, 1);
    assert_ok(pool_sampler_new(f.set, true, &s, &err), err);
    write_all(s, &text);
    assert_true(has(&text, "# TYPE coffer_pool_up gauge\n"));
    assert_false(has(&text, "{pool="));
    pool_sampler_free(s);
}

static void test_a_round_shows_what_is_there(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(METRICS_MAX);
    struct error err = ERROR_INIT;
    struct pool_sampler *s;

    fixture_make(&f, 2);
    assert_ok(pool_sampler_new(f.set, true, &s, &err), err);
    assert_int_equal(rename(tmpdir_path(&f.dir, "b"), tmpdir_path(&f.dir, "away")), 0);
    pool_sampler_round(s);
    write_all(s, &text);
    assert_true(has(&text, "coffer_pool_up{pool=\"a\"} 1\ncoffer_pool_up{pool=\"b\"} 0\n"));
    assert_true(has(&text, "coffer_pool_volumes{pool=\"a\"} 0\n"));
    assert_true(has(&text, "coffer_pool_size_bytes{pool=\"a\"}"));
    assert_false(has(&text, "coffer_pool_size_bytes{pool=\"b\"}"));
    assert_int_equal(rename(tmpdir_path(&f.dir, "away"), tmpdir_path(&f.dir, "b")), 0);
    pool_sampler_round(s);
    write_all(s, &text);
    assert_true(has(&text, "coffer_pool_up{pool=\"b\"} 1\n"));
    pool_sampler_free(s);
}

static void test_volumes_only_where_they_are_counted(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(METRICS_MAX);
    struct error err = ERROR_INIT;
    struct pool_sampler *s;

    fixture_make(&f, 1);
    assert_ok(pool_sampler_new(f.set, false, &s, &err), err);
    pool_sampler_round(s);
    write_all(s, &text);
    assert_false(has(&text, "coffer_pool_volumes"));
    assert_true(has(&text, "coffer_pool_free_bytes{pool=\"a\"}"));
    pool_sampler_free(s);
}

static int almost_full(struct pool *pool, struct error *err UNUSED)
{
    atomic_store(&pool->used, GIB(96));
    atomic_store(&pool->free, GIB(4));
    return 0;
}

/* Volumes fill it, and kubelet's questions for statistics don't touch it. */
static void test_a_round_sees_that_a_pool_fills(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct backend_ops ops;
    struct error err = ERROR_INIT;
    struct pool_sampler *s;

    fixture_make(&f, 1);
    ops = *f.set->pools[0]->ops;
    ops.pool_check = almost_full;
    f.set->pools[0]->ops = &ops;
    assert_ok(pool_sampler_new(f.set, false, &s, &err), err);
    pool_sampler_round(s);
    assert_int_equal(atomic_load(&f.set->pools[0]->pressure), POOL_PRESSURE_MAX);
    pool_sampler_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_before_a_round),
        cmocka_unit_test(test_a_round_shows_what_is_there),
        cmocka_unit_test(test_volumes_only_where_they_are_counted),
        cmocka_unit_test(test_a_round_sees_that_a_pool_fills),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "tests/unit/backends/fixture.h"

static const struct backend_ops *ops(void)
{
    return backend_find("file");
}

struct seen {
    char ids[300][VOLUME_ID_MAX + 1];
    size_t n, stop_at;
};

static bool see(void *ctx, const char *id)
{
    struct seen *s = ctx;

    assert_true(s->n < ARRAY_SIZE(s->ids));
    assert_int_equal(str_copy(s->ids[s->n], sizeof(s->ids[0]), id), 0);
    s->n++;
    return s->stop_at == 0 || s->n < s->stop_at;
}

static void make_places(struct fixture *f, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        AUTO_VOLUME struct volume v = VOLUME_INIT;
        struct error err = ERROR_INIT;
        struct volume_id id;
        char name[32];

        (void)snprintf(name, sizeof(name), "pvc-%u", i);
        id = fixture_id(f, 0, name);
        assert_ok(volume_open(f->set->pools[0], &id, true, &v, &err), err);
    }
}

static void test_list_is_ordered_and_pages(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    static struct seen all, page;
    struct error err = ERROR_INIT;
    size_t got = 0;
    const char *after = "";

    fixture_make(&f, 1);
    make_places(&f, 200);
    assert_int_equal(mkdir(tmpdir_path(&f.dir, "a/volumes/not-a-shard"), 0700), 0);
    memset(&all, 0, sizeof(all));
    assert_ok(ops()->list(f.set->pools[0], "", see, &all, &err), err);
    assert_int_equal(all.n, 200);
    for (size_t i = 1; i < all.n; i++)
        assert_true(strcmp(all.ids[i - 1], all.ids[i]) < 0);
    for (;;) {
        memset(&page, 0, sizeof(page));
        page.stop_at = 7;
        assert_ok(ops()->list(f.set->pools[0], after, see, &page, &err), err);
        for (size_t i = 0; i < page.n; i++)
            assert_string_equal(page.ids[i], all.ids[got++]);
        if (page.n < 7)
            break;
        after = all.ids[got - 1];
    }
    assert_int_equal(got, 200);
}

static void test_list_ignores_strangers(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct seen s = { .n = 0 };
    struct error err = ERROR_INIT;
    struct volume_id id;
    char wrong[4096];

    fixture_make(&f, 1);
    assert_ok(ops()->list(f.set->pools[0], "", see, &s, &err), err);
    assert_int_equal(s.n, 0);
    id = fixture_volume(&f, 0, "pvc-1");
    /* a place in the wrong shard, and names that aren't hashes */
    id.hash[2] = id.hash[2] == 'f' ? '0' : 'f';
    (void)snprintf(wrong, sizeof(wrong), "%s/a/volumes/%.2s/%s", f.dir.path, id.hash, "0");
    assert_int_equal(mkdir(wrong, 0700), 0);
    (void)snprintf(wrong, sizeof(wrong), "%s/a/volumes/%.2s/%c%s", f.dir.path, id.hash,
                   id.hash[0] == '0' ? '1' : '0', id.hash + 1);
    assert_int_equal(mkdir(wrong, 0700), 0);
    assert_ok(ops()->list(f.set->pools[0], "", see, &s, &err), err);
    assert_int_equal(s.n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list_is_ordered_and_pages),
        cmocka_unit_test(test_list_ignores_strangers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "tests/unit/controller/fixture.h"

#include <fcntl.h>
#include <limits.h>

#define N 23

static int list(struct rig *r, uint64_t max, const char *token, struct csi_list_reply *ret)
{
    struct csi_list_request req = { .max_entries = max, .starting_token = token };

    r->err = (struct error)ERROR_INIT;
    return controller_list(&r->c, &r->call, &req, ret, &r->err);
}

static void test_all(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_list_reply reply;

    rig_make(&r, 2);
    assert_ok(list(&r, 0, "", &reply), r.err);
    assert_int_equal(reply.n, 0);
    assert_string_equal(reply.next_token, "");
    (void)rig_volume(&r, "pvc-1", MIB(20));
    (void)fixture_volume(&r.f, 1, "pvc-2");
    assert_ok(list(&r, 0, "", &reply), r.err);
    assert_int_equal(reply.n, 2);
    assert_string_equal(reply.items[0].volume_id, rig_id(&r, 0, "pvc-1"));
    assert_int_equal(reply.items[0].capacity_bytes, MIB(20));
    assert_string_equal(csi_map_get(&reply.items[0].volume_context, "kms"), "k1");
    assert_int_equal(reply.items[0].accessible_topology.n, 1);
    assert_string_equal(reply.items[1].volume_id, rig_id(&r, 1, "pvc-2"));
    assert_string_equal(reply.next_token, "");
}

static void test_pages(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_list_reply all, page;
    const char *token = "";
    size_t got = 0, pages = 0;

    rig_make(&r, 2);
    for (int i = 0; i < N; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "pvc-%d", i);
        (void)fixture_volume(&r.f, i % 2 == 0 ? 0 : 1, name);
    }
    assert_ok(list(&r, 0, "", &all), r.err);
    assert_int_equal(all.n, N);
    for (size_t i = 1; i < N; i++)
        assert_true(strcmp(all.items[i - 1].volume_id, all.items[i].volume_id) < 0);
    do {
        assert_ok(list(&r, 5, token, &page), r.err);
        assert_true(page.n <= 5);
        for (size_t i = 0; i < page.n; i++)
            assert_string_equal(page.items[i].volume_id, all.items[got++].volume_id);
        token = page.next_token;
        pages++;
    } while (token[0] != '\0');
    assert_int_equal(got, N);
    assert_int_equal(pages, (N + 4) / 5);
    /* exactly full: no token */
    assert_ok(list(&r, N, "", &page), r.err);
    assert_string_equal(page.next_token, "");
    /* the rest after a token, and its volume may be gone by then */
    assert_ok(list(&r, 3, "", &page), r.err);
    token = page.next_token;
    assert_ok(rig_delete(&r, token), r.err);
    assert_ok(list(&r, 0, token, &page), r.err);
    assert_int_equal(page.n, N - 3);
    assert_string_equal(page.items[0].volume_id, all.items[3].volume_id);
}

static void test_bad_token(void **state UNUSED)
{
    static const char *const bad[] = { "x", "invalid-token", "a.0.0", "../a" };
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_list_reply reply;

    rig_make(&r, 1);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_fails(list(&r, 0, bad[i], &reply), r.err, ERR_ABORTED);
}

static void test_what_is_no_volume(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_list_reply reply;
    struct csi_volume v;
    struct volume_id id;

    rig_make(&r, 1);
    v = rig_volume(&r, "pvc-1", MIB(20));
    rig_set_state(&r, v.volume_id, RECORD_ERASED);
    keyd.fails = ERR_UNAVAILABLE;
    assert_fails(rig_create(&r, "pvc-2", MIB(20), &v), r.err, ERR_UNAVAILABLE);
    id = fixture_id(&r.f, 0, "pvc-3");
    {
        AUTO_VOLUME struct volume place = VOLUME_INIT;

        r.err = (struct error)ERROR_INIT;
        assert_ok(volume_open(r.f.set->pools[0], &id, true, &place, &r.err), r.err);
    }
    assert_ok(list(&r, 0, "", &reply), r.err);
    assert_int_equal(reply.n, 0);
}

/* It exists; its size is unknown. */
static void test_unreadable_is_listed(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_list_reply reply;
    struct csi_volume v;
    struct volume_id id;

    rig_make(&r, 1);
    v = rig_volume(&r, "pvc-1", MIB(20));
    assert_ok(volume_id_parse(v.volume_id, &id, &r.err), r.err);
    assert_int_equal(truncate(place_path(&r.f, &id, "record.json"), 3), 0);
    assert_ok(list(&r, 0, "", &reply), r.err);
    assert_int_equal(reply.n, 1);
    assert_string_equal(reply.items[0].volume_id, v.volume_id);
    assert_int_equal(reply.items[0].capacity_bytes, 0);
    assert_int_equal(reply.items[0].volume_context.n, 0);
}

/* What somebody put in the place of a record or of a volume's directory hides no other volume. */
static void test_odd_neighbours(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_list_reply reply;
    struct csi_volume link, file;
    struct volume_id id;
    char place[PATH_MAX];

    rig_make(&r, 1);
    link = rig_volume(&r, "pvc-1", MIB(20));
    file = rig_volume(&r, "pvc-2", MIB(20));
    (void)rig_volume(&r, "pvc-3", MIB(20));
    assert_ok(volume_id_parse(link.volume_id, &id, &r.err), r.err);
    assert_int_equal(unlink(place_path(&r.f, &id, "record.json")), 0);
    assert_int_equal(symlink("/none", place_path(&r.f, &id, "record.json")), 0);
    assert_ok(list(&r, 0, "", &reply), r.err);
    assert_int_equal(reply.n, 3);
    assert_ok(volume_id_parse(file.volume_id, &id, &r.err), r.err);
    (void)snprintf(place, sizeof(place), "%s", place_path(&r.f, &id, "."));
    place[strlen(place) - 2] = '\0';
    assert_int_equal(rename(place, tmpdir_path(&r.f.dir, "moved")), 0);
    assert_int_equal(close(open(place, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)), 0);
    assert_ok(list(&r, 0, "", &reply), r.err);
    assert_int_equal(reply.n, 3);
}

static void test_pool_away(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_list_reply reply;

    rig_make(&r, 2);
    (void)rig_volume(&r, "pvc-1", MIB(20));
    assert_int_equal(rename(tmpdir_path(&r.f.dir, "b"), tmpdir_path(&r.f.dir, "away")), 0);
    assert_fails(list(&r, 0, "", &reply), r.err, ERR_UNAVAILABLE);
    assert_int_equal(rename(tmpdir_path(&r.f.dir, "away"), tmpdir_path(&r.f.dir, "b")), 0);
    assert_ok(list(&r, 0, "", &reply), r.err);
}

/* '-' is less than '.': the ids of pool "a-b" come before those of "a". */
static void test_pools_in_id_order(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_list_reply all, page;

    rig_make(&r, 2);
    pool_set_free(r.f.set);
    (void)snprintf(r.f.pools[1].name, sizeof(r.f.pools[1].name), "a-b");
    assert_ok(pool_set_open(&r.f.config, &r.f.set, &r.err), r.err);
    r.c.pools = r.f.set;
    (void)fixture_volume(&r.f, 0, "pvc-1");
    (void)fixture_volume(&r.f, 1, "pvc-2");
    assert_ok(list(&r, 0, "", &all), r.err);
    assert_int_equal(all.n, 2);
    assert_true(strcmp(all.items[0].volume_id, all.items[1].volume_id) < 0);
    assert_ok(list(&r, 1, "", &page), r.err);
    assert_ok(list(&r, 1, page.next_token, &page), r.err);
    assert_int_equal(page.n, 1);
    assert_string_equal(page.items[0].volume_id, all.items[1].volume_id);
    assert_string_equal(page.next_token, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_bad_token),
        cmocka_unit_test(test_what_is_no_volume),
        cmocka_unit_test(test_unreadable_is_listed),
        cmocka_unit_test(test_odd_neighbours),
        cmocka_unit_test(test_pool_away),
        cmocka_unit_test(test_pools_in_id_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

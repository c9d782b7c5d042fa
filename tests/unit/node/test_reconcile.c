/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reconcile over real pools, locks, loops and files; only coffer-crypt is a script that lists the
 * mappings which a test wants and writes down what it was asked to close.
 */
#include "common/base.h"
#include "node/reconcile.h"

#include "common/deadline.h"
#include "common/parse.h"
#include "tests/support/skip.h"
#include "tests/unit/backends/fixture.h"
#include "tests/unit/node/helper.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/sysmacros.h>

struct world {
    struct fixture f;
    struct node node;
    struct csi_call call;
    struct csi_reconcile_reply reply;
    struct helper helper;
    char device_dir[600];
};

static void world_make(struct world *w)
{
    memset(w, 0, sizeof(*w));
    fixture_make(&w->f, 1);
    w->helper = helper_make(&w->f.dir);
    (void)snprintf(w->device_dir, sizeof(w->device_dir), "%s/nodes", w->f.dir.path);
    assert_int_equal(mkdir(w->device_dir, 0700), 0);
    w->node = (struct node){ .pools = w->f.set,
                             .locks = keylock_new(),
                             .crypt = { .helper = w->helper.path },
                             .device_dir = w->device_dir };
    w->call = (struct csi_call){ .arena = arena_new(MIB(4)), .deadline = DEADLINE_NEVER };
}

static void world_release(struct world *w)
{
    keylock_free(w->node.locks);
    arena_free(w->call.arena);
    fixture_release(&w->f);
}
#define AUTO_WORLD __attribute__((cleanup(world_release)))

static const struct csi_left_over *run(struct world *w, bool dry_run, size_t rows)
{
    const struct csi_reconcile_request req = { .dry_run = dry_run };
    struct error err = ERROR_INIT;

    assert_ok(node_reconcile(&w->node, &w->call, &req, &w->reply, &err), err);
    for (size_t i = 0; w->reply.n != rows && i < w->reply.n; i++)
        print_message("%s %s: %s: %s\n", w->reply.items[i].kind, w->reply.items[i].what,
                      w->reply.items[i].action, w->reply.items[i].why);
    assert_int_equal(w->reply.n, rows);
    return w->reply.items;
}

static void assert_row(const struct csi_left_over *l, const char *kind, const char *action,
                       const char *why, const char *result)
{
    if (strcmp(l->kind, kind) != 0 || strcmp(l->action, action) != 0 ||
        strstr(l->why, why) == NULL || strcmp(l->result, result) != 0)
        fail_msg("%s %s: %s: %s (%s %s), expected %s %s '%s'", l->kind, l->what, l->action, l->why,
                 l->result, l->problem, kind, action, why);
}

/* A volume as `cofferctl` would see it: its record in that state. */
static struct volume_id volume_in(struct world *w, const char *name, enum record_state state,
                                  struct record *ret)
{
    struct volume_id id = fixture_volume(&w->f, 0, name);
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;

    assert_ok(volume_open(w->f.set->pools[0], &id, false, &v, &err), err);
    assert_ok(v.pool->ops->read_record(&v, ret, &err), err);
    ret->state = state;
    if (state == RECORD_READY) {
        memset(ret->digest, 'd', 64);
        memset(ret->mac, 'e', 64);
    }
    assert_ok(v.pool->ops->replace_record(&v, ret, &err), err);
    return id;
}

static void list_mapping(const struct world *w, const char *dm_name, const char *uuid,
                         int open_count, const char *state, const char *why)
{
    helper_lists(&w->helper, dm_name, uuid, makedev(4095, 7), open_count, state, why);
}

static void test_nothing(void **state UNUSED)
{
    AUTO_WORLD struct world w;

    world_make(&w);
    (void)fixture_volume(&w.f, 0, "pvc-1");
    (void)run(&w, true, 0);
    (void)run(&w, false, 0);
}

/* What can't be looked at is a row, never "nothing is left over". */
static void test_unready_pool(void **state UNUSED)
{
    AUTO_WORLD struct world w;

    world_make(&w);
    assert_int_equal(unlink(tmpdir_path(&w.f.dir, "a/pool.json")), 0);
    const struct csi_left_over *rows = run(&w, true, 1);
    assert_row(&rows[0], "pool", "none", "can't be seen", "");
    assert_string_equal(rows[0].what, "a");
    (void)run(&w, false, 1);
}

static void test_mappings(void **state UNUSED)
{
    static const struct {
        const char *name;
        enum record_state state;
        const char *fs;
        bool own_uuid;
        int open_count;
        const char *judged, *why, *action, *word; /* action NULL: no row */
    } cases[] = {
        { "dead", RECORD_READY, "ext4", true, 0, "zombie", "gone", "reap", "it is dead: gone" },
        { "dead-open", RECORD_READY, "ext4", true, 2, "zombie", "gone", "none", "still open" },
        { "dead-new", RECORD_NEW, "ext4", false, 0, "zombie", "no table", "reap", "no table" },
        { "wrong", RECORD_READY, "ext4", true, 0, "wrong", "odd", "none", "dmsetup table" },
        { "used", RECORD_READY, "ext4", true, 1, "ok", "", NULL, "" },
        { "free", RECORD_READY, "ext4", true, 0, "ok", "", "reap", "nothing is mounted" },
        { "block", RECORD_READY, "none", true, 0, "ok", "", NULL, "" },
        { "format", RECORD_FORMATTING, "ext4", true, 0, "ok", "", "reap", "'formatting'" },
        { "format-open", RECORD_FORMATTING, "ext4", true, 1, "ok", "", "none", "is open" },
        { "other", RECORD_READY, "ext4", false, 0, "ok", "", "none", "another creation" },
        { "other-open", RECORD_READY, "ext4", false, 1, "ok", "", "none", "another creation" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_WORLD struct world w;
        char dm_name[DM_NAME_LEN + 1];
        struct record r;

        world_make(&w);
        struct volume_id id = volume_in(&w, cases[i].name, cases[i].state, &r);
        if (strcmp(cases[i].fs, "none") == 0) {
            AUTO_VOLUME struct volume v = VOLUME_INIT;
            struct error err = ERROR_INIT;

            (void)snprintf(r.fs, sizeof(r.fs), "none");
            assert_ok(volume_open(w.f.set->pools[0], &id, false, &v, &err), err);
            assert_ok(v.pool->ops->replace_record(&v, &r, &err), err);
        }
        volume_id_dm_name(&id, dm_name);
        list_mapping(&w, dm_name,
                     cases[i].own_uuid ? r.uuid : "00000000-0000-4000-8000-000000000000",
                     cases[i].open_count, cases[i].judged, cases[i].why);
        const size_t rows = cases[i].action != NULL;
        const bool acts = rows > 0 && strcmp(cases[i].action, "none") != 0;
        const struct csi_left_over *l = run(&w, true, rows);
        if (rows > 0)
            assert_row(l, "mapping", cases[i].action, cases[i].word, "");
        assert_false(helper_closed(&w.helper, dm_name));
        l = run(&w, false, rows);
        if (rows > 0)
            assert_row(l, "mapping", cases[i].action, cases[i].word, acts ? "done" : "");
        assert_int_equal(helper_closed(&w.helper, dm_name), acts);
        assert_int_equal(atomic_load(&w.node.counters[NODE_RECONCILED]), acts ? 1 : 0);
    }
}

/* Without its record, or without its volume, a mapping may be the last way to somebody's data. */
static void test_mapping_without_record(void **state UNUSED)
{
    AUTO_WORLD struct world w;
    char dm_name[DM_NAME_LEN + 1];
    struct record r;

    world_make(&w);
    struct volume_id id = volume_in(&w, "pvc-1", RECORD_READY, &r);
    volume_id_dm_name(&id, dm_name);
    list_mapping(&w, dm_name, r.uuid, 0, "ok", "");
    tmpdir_write(&w.f.dir, place_path(&w.f, &id, "record.json") + strlen(w.f.dir.path) + 1, "{", 1);
    assert_row(run(&w, false, 1), "mapping", "none", "cofferctl record restore", "");
    assert_int_equal(unlink(place_path(&w.f, &id, "record.json")), 0);
    assert_row(run(&w, false, 1), "mapping", "none", "cofferctl record restore", "");
    assert_int_equal(unlink(place_path(&w.f, &id, "image")), 0);
    assert_int_equal(unlink(place_path(&w.f, &id, "lock")), 0);
    assert_row(run(&w, false, 1), "mapping", "none", "its volume is gone", "");
    assert_false(helper_closed(&w.helper, dm_name));
}

static void test_mapping_of_no_pool(void **state UNUSED)
{
    AUTO_WORLD struct world w;
    const char *name = "coffer-0123456789abcdef0123456789abcdef-00000000";

    world_make(&w);
    list_mapping(&w, name, "", 0, "zombie", "no table");
    const struct csi_left_over *l = run(&w, false, 1);
    assert_row(l, "mapping", "none", "no pool", "");
    assert_string_equal(l->volume_id, "");
    assert_false(helper_closed(&w.helper, name));
}

static void test_helper_fails(void **state UNUSED)
{
    AUTO_WORLD struct world w;

    world_make(&w);
    tmpdir_write(&w.f.dir, "list", "nothing", 7);
    assert_row(run(&w, false, 1), "mapping", "none", "coffer-crypt", "");
    assert_string_equal(w.reply.items[0].what, "all of them");
}

/* A call of this process decides about its own volume; another process's lock is named. */
static void test_locked(void **state UNUSED)
{
    AUTO_WORLD struct world w;
    struct keylock_hold *hold = NULL;
    struct error err = ERROR_INIT;
    char dm_name[DM_NAME_LEN + 1];
    struct record r;
    int status, ready[2];

    world_make(&w);
    struct volume_id id = volume_in(&w, "pvc-1", RECORD_READY, &r);
    volume_id_dm_name(&id, dm_name);
    list_mapping(&w, dm_name, r.uuid, 0, "ok", "");
    assert_ok(keylock_try(w.node.locks, r.id, &hold, &err), err);
    (void)run(&w, false, 0);
    keylock_hold_free(hold);

    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        int fd = open(place_path(&w.f, &id, "lock"), O_RDWR | O_CLOEXEC);
        if (fd < 0 || flock(fd, LOCK_EX) < 0 || write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            (void)pause();
    }
    assert_true(read(ready[0], &status, 1) == 1);
    const struct csi_left_over *l = run(&w, false, 2);
    assert_row(&l[0], "mapping", "none", "locked", "");
    assert_row(&l[1], "lock", "none", "holds the volume's lock", "");
    assert_string_equal(l[1].volume_id, r.id);
    char who[32];
    (void)snprintf(who, sizeof(who), "process %d (", (int)child);
    assert_non_null(strstr(l[1].what, who));
    assert_false(helper_closed(&w.helper, dm_name));
    (void)kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    (void)close(ready[0]);
    (void)close(ready[1]);
    assert_row(run(&w, false, 1), "mapping", "reap", "nothing is mounted", "done");
}

static void test_nodes(void **state UNUSED)
{
    AUTO_WORLD struct world w;
    char dm_name[DM_NAME_LEN + 1], path[1400];

    world_make(&w);
    struct volume_id id = fixture_volume(&w.f, 0, "pvc-1");
    volume_id_dm_name(&id, dm_name);
    tmpdir_write(&w.f.dir, "nodes/notes.txt", "x", 1);
    assert_row(run(&w, false, 1), "node", "none", "somebody else", "");
    assert_true(exists(tmpdir_path(&w.f.dir, "nodes/notes.txt")));
    assert_int_equal(unlink(tmpdir_path(&w.f.dir, "nodes/notes.txt")), 0);
    (void)snprintf(path, sizeof(path), "%s/%s", w.device_dir, dm_name);
    if (mknod(path, S_IFBLK | 0600, makedev(4095, 7)) < 0) {
        skip_because(SKIP_NO_ROOT);
        return;
    }
    assert_row(run(&w, true, 1), "node", "unlink", "4095:7 is no device's any more", "");
    assert_true(exists(path));
    assert_row(run(&w, false, 1), "node", "unlink", "4095:7 is no device's any more", "done");
    assert_false(exists(path));
    (void)run(&w, false, 0);
}

/* gRPC's strings are UTF-8: one strange name, or a character cut in two, would hide the whole
 * answer. */
static void test_strange_names(void **state UNUSED)
{
    AUTO_WORLD struct world w;
    const struct csi_left_over *l;
    char text[1000] = "";
    struct finding f;

    world_make(&w);
    tmpdir_write(&w.f.dir, "nodes/\xff\x1b", "x", 1);
    l = run(&w, false, 1);
    assert_string_equal(l->what, "??");
    for (size_t i = 0; i + 3 < sizeof(text); i += 2)
        memcpy(text + i, "\xd0\xb9", 3);
    assert_true(found(&f, "none", "x%s", text));
    assert_true(utf8_valid(f.why, strlen(f.why)));
    assert_true(found(&f, "none", "xy%s", text));
    assert_true(utf8_valid(f.why, strlen(f.why)));
}

static void test_no_device_dir(void **state UNUSED)
{
    AUTO_WORLD struct world w;

    world_make(&w);
    assert_int_equal(rmdir(w.device_dir), 0);
    (void)run(&w, false, 0);
}

static void test_deadline(void **state UNUSED)
{
    AUTO_WORLD struct world w;
    const struct csi_reconcile_request req = { .dry_run = false };
    struct error err = ERROR_INIT;

    world_make(&w);
    w.call.deadline = 1;
    tmpdir_write(&w.f.dir, "nodes/notes.txt", "x", 1);
    assert_fails(node_reconcile(&w.node, &w.call, &req, &w.reply, &err), err, ERR_DEADLINE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_unready_pool),
        cmocka_unit_test(test_mappings),
        cmocka_unit_test(test_mapping_without_record),
        cmocka_unit_test(test_mapping_of_no_pool),
        cmocka_unit_test(test_helper_fails),
        cmocka_unit_test(test_locked),
        cmocka_unit_test(test_nodes),
        cmocka_unit_test(test_strange_names),
        cmocka_unit_test(test_no_device_dir),
        cmocka_unit_test(test_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/state.h"

#include "tests/support/nomem.h"
#include "tests/support/skip.h"
#include "tests/support/tmpdir.h"
#include "tests/support/unit.h"

#include <sys/stat.h>
#include <unistd.h>

#define A "0123456789abcdef0123456789abcdef"
#define B "0123456789abcdef0123456789abcde0" /* begins like A, so looks for the same user first */

static const struct launch_config two_users = { .uid_first = 70000, .uid_count = 2 };

static void test_locked_and_removed(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    AUTO_STATE struct state s = STATE_INIT;
    AUTO_STATE struct state again = STATE_INIT;
    struct error e = ERROR_INIT;

    assert_works(state_open(t.path, A, &s, &err));
    assert_int_equal(state_open(t.path, A, &again, &e), -1);
    assert_int_equal(e.code, ERR_ABORTED);
    assert_works(state_remove(&s, &err));
    assert_int_equal(access(tmpdir_path(&t, A), F_OK), -1);
    /* the lock is on what was removed: another one makes its own */
    assert_works(state_open(t.path, A, &again, &err));
    assert_works(state_remove(&again, &err));
    assert_works(state_remove(&again, &err));
}

static void test_users_are_nobody_elses(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    AUTO_STATE struct state a = STATE_INIT;
    AUTO_STATE struct state b = STATE_INIT;
    AUTO_STATE struct state c = STATE_INIT;
    uid_t first = 0, second = 0, none = 7;

    assert_works(state_open(t.path, A, &a, &err));
    assert_works(state_open(t.path, B, &b, &err));
    assert_works(state_take_uid(&a, &two_users, &first, &err));
    assert_works(state_take_uid(&b, &two_users, &second, &err));
    assert_true((first == 70000 && second == 70001) || (first == 70001 && second == 70000));
    assert_works(state_take_uid(&a, &two_users, &none, &err));
    assert_int_equal(none, first);
    assert_works(state_open(t.path, "fedcba9876543210fedcba9876543210", &c, &err));
    assert_fails(state_take_uid(&c, &two_users, &none, &err), ERR_EXHAUSTED,
                 "all 2 users for VMs are taken");
    assert_works(state_remove(&b, &err));
    assert_works(state_take_uid(&c, &two_users, &none, &err));
    assert_int_equal(none, second);
}

/* Another range in the configuration: the noted user isn't one any more. */
static void test_a_user_outside_the_range_is_changed(void **state UNUSED)
{
    static const struct launch_config other = { .uid_first = 90000, .uid_count = 1 };
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    AUTO_STATE struct state s = STATE_INIT;
    uid_t uid = 0;

    assert_works(state_open(t.path, A, &s, &err));
    assert_works(state_take_uid(&s, &two_users, &uid, &err));
    assert_works(state_take_uid(&s, &other, &uid, &err));
    assert_int_equal(uid, 90000);
}

/* Which user it has can't be read: it may be any. */
static void test_unreadable_is_not_free(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    AUTO_STATE struct state s = STATE_INIT;
    uid_t uid = 7;

    assert_int_equal(mkdir(tmpdir_path(&t, B), 0700), 0);
    tmpdir_write(&t, B "/uid", "x", 1);
    assert_works(state_open(t.path, A, &s, &err));
    assert_fails(state_take_uid(&s, &two_users, &uid, &err), ERR_DATA_LOSS,
                 "the noted user of VM '" B "' is no number");
    assert_int_equal(uid, 7);
}

/* Its own: what couldn't be read now is its user all the same. */
static void test_own_user_is_kept(void **state UNUSED)
{
    AUTO_STATE struct state s = STATE_INIT;
    struct error e = ERROR_INIT;
    uid_t first = 0, uid = 7;

    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    assert_works(state_open(t.path, A, &s, &err));
    assert_works(state_take_uid(&s, &two_users, &first, &err));
    nomem_arm(1);
    int rc = state_take_uid(&s, &two_users, &uid, &e);
    assert_true(nomem_disarm());
    assert_true(rc == -1 && error_is_memory(&e) && uid == 7);
    assert_works(state_take_uid(&s, &two_users, &uid, &err));
    assert_int_equal(uid, first);
}

static void test_status(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    AUTO_STATE struct state s = STATE_INIT;
    char text[STATUS_MAX + 1];
    struct error e = ERROR_INIT;
    int fd = -1;

    assert_works(state_open(t.path, A, &s, &err));
    assert_int_equal(state_read_status(s.base_fd, A, text, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_works(state_status_fd(&s, &fd, &err));
    assert_int_equal(write(fd, "exit 3", 6), 6);
    (void)close(fd);
    assert_works(state_read_status(s.base_fd, A, text, &err));
    assert_string_equal(text, "exit 3");
    assert_works(state_status_fd(&s, &fd, &err)); /* a new start forgets it */
    (void)close(fd);
    assert_works(state_read_status(s.base_fd, A, text, &err));
    assert_string_equal(text, "");
}

static void test_stopping(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    AUTO_STATE struct state s = STATE_INIT;
    bool stopping = true;

    assert_works(state_open(t.path, A, &s, &err));
    for (int i = 0; i < 2; i++) {
        assert_works(state_set_stopping(&s, false, &err));
        assert_works(state_stopping(&s, &stopping, &err));
        assert_false(stopping);
        assert_works(state_set_stopping(&s, true, &err));
        assert_works(state_set_stopping(&s, true, &err));
        assert_works(state_stopping(&s, &stopping, &err));
        assert_true(stopping);
    }
    assert_works(state_remove(&s, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_locked_and_removed),
        cmocka_unit_test(test_users_are_nobody_elses),
        cmocka_unit_test(test_a_user_outside_the_range_is_changed),
        cmocka_unit_test(test_unreadable_is_not_free),
        cmocka_unit_test(test_own_user_is_kept),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_stopping),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

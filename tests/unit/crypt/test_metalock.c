/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/metalock.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "tests/support/tmpdir.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <cmocka.h>

static int other_holder(const struct tmpdir *d)
{
    char path[600];

    (void)snprintf(path, sizeof(path), "%s/L_7:3", d->path);
    int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0700);
    assert_true(fd >= 0 && flock(fd, LOCK_SH) == 0); /* a reader */
    return fd;
}

static bool there(const struct tmpdir *d)
{
    char path[600];

    (void)snprintf(path, sizeof(path), "%s/L_7:3", d->path);
    return access(path, F_OK) == 0;
}

static void held_and_given_back(void **state)
{
    struct tmpdir d = tmpdir_make();
    struct metalock l = METALOCK_INIT;
    struct error err = ERROR_INIT;

    assert_int_equal(metalock_take(d.path, makedev(7, 3), deadline_in(1000), &l, &err), 0);
    assert_string_equal(l.name, "L_7:3");
    assert_true(there(&d));
    AUTO_CLOSE int fd = openat(l.dir_fd, l.name, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_SH | LOCK_NB), -1);
    metalock_release(&l);
    assert_false(there(&d)); /* as libcryptsetup leaves it */
    metalock_release(&l);    /* nothing held: nothing happens */
    tmpdir_remove(&d);
}

static void waits_for_others_until_the_deadline(void **state)
{
    struct tmpdir d = tmpdir_make();
    AUTO_METALOCK struct metalock l = METALOCK_INIT;
    struct error err = ERROR_INIT;
    AUTO_CLOSE int other = other_holder(&d);

    assert_int_equal(metalock_take(d.path, makedev(7, 3), deadline_in(200), &l, &err), -1);
    assert_int_equal(err.code, ERR_ABORTED);
    assert_non_null(strstr(err.msg, "device 7:3"));
    assert_true(there(&d));
    assert_int_equal(flock(other, LOCK_UN), 0);
    assert_int_equal(metalock_take(d.path, makedev(7, 3), deadline_in(60000), &l, &err), 0);
    metalock_release(&l);
    tmpdir_remove(&d);
}

static void devices_do_not_wait_for_each_other(void **state)
{
    struct tmpdir d = tmpdir_make();
    AUTO_METALOCK struct metalock l = METALOCK_INIT;
    AUTO_CLOSE int other = other_holder(&d);

    assert_int_equal(metalock_take(d.path, makedev(7, 4), deadline_in(60000), &l, NULL), 0);
    metalock_release(&l);
    assert_true(there(&d) && other >= 0);
    tmpdir_remove(&d);
}

static void no_directory_is_an_error(void **state)
{
    AUTO_METALOCK struct metalock l = METALOCK_INIT;
    struct error err = ERROR_INIT;

    assert_int_equal(metalock_take("/nowhere", makedev(7, 3), deadline_in(100), &l, &err), -1);
    assert_non_null(strstr(err.msg, "/nowhere"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(held_and_given_back),
        cmocka_unit_test(waits_for_others_until_the_deadline),
        cmocka_unit_test(devices_do_not_wait_for_each_other),
        cmocka_unit_test(no_directory_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

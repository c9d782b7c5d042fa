/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/listen.h"

#include "tests/support/tmpdir.h"
#include "tests/support/unit.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int reach(const char *path, int type)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, type, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    int r = connect(fd, (const struct sockaddr *)&address, sizeof(address));
    (void)close(fd);
    return r;
}

static void test_both_types_serve(void **state UNUSED)
{
    static const int types[] = { SOCK_STREAM, SOCK_SEQPACKET };
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        AUTO_TMPDIR struct tmpdir t = tmpdir_make();
        AUTO_LISTENER struct listener l = LISTENER_INIT;
        struct stat st;
        assert_works(listener_open(tmpdir_path(&t, "s"), types[i], getegid(), &l, &err));
        assert_int_equal(reach(tmpdir_path(&t, "s"), types[i]), 0);
        assert_int_equal(lstat(tmpdir_path(&t, "s"), &st), 0);
        assert_int_equal(st.st_mode & 0777, 0660);
        assert_int_equal(st.st_gid, getegid());
        assert_true((fcntl(l.fd, F_GETFL) & O_NONBLOCK) != 0);
    }
}

static void test_one_at_a_time(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    AUTO_LISTENER struct listener first = LISTENER_INIT;
    struct listener second = LISTENER_INIT;
    struct error e = ERROR_INIT;
    const char *path = tmpdir_path(&t, "s");

    assert_works(listener_open(path, SOCK_STREAM, LISTEN_OWN_GROUP, &first, &err));
    assert_int_equal(listener_open(path, SOCK_STREAM, LISTEN_OWN_GROUP, &second, &e), -1);
    assert_int_equal(e.code, ERR_ABORTED);
    assert_int_equal(second.fd, -1);
    assert_int_equal(reach(path, SOCK_STREAM), 0);
}

/* A killed process leaves its socket; a wrong path must not delete somebody's file. */
static void test_what_is_at_the_path(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    const char *path = tmpdir_path(&t, "s");
    char sentence[600];
    int fd = -1;

    assert_works(listen_at(path, SOCK_STREAM, LISTEN_OWN_GROUP, &fd, &err));
    (void)close(fd);
    assert_works(listen_at(path, SOCK_STREAM, LISTEN_OWN_GROUP, &fd, &err));
    assert_true((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0);
    (void)close(fd);
    assert_int_equal(unlink(path), 0);
    tmpdir_write(&t, "s", "mine", 4);
    fd = -1;
    (void)snprintf(sentence, sizeof(sentence), "'%s' exists and is not a socket", path);
    assert_fails(listen_at(path, SOCK_STREAM, LISTEN_OWN_GROUP, &fd, &err), ERR_PRECONDITION,
                 sentence);
    assert_int_equal(fd, -1);
}

static void test_paths_that_are_none(void **state UNUSED)
{
    char name[200] = "/tmp/";
    int fd = -1;
    struct error e = ERROR_INIT;

    assert_fails(listen_at("s", SOCK_STREAM, LISTEN_OWN_GROUP, &fd, &err), ERR_INVALID,
                 "--socket 's' must be an absolute path");
    memset(name + 5, 'x', 150);
    assert_int_equal(listen_at(name, SOCK_STREAM, LISTEN_OWN_GROUP, &fd, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_types_serve),
        cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_what_is_at_the_path),
        cmocka_unit_test(test_paths_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "common/cleanup.h"
#include "csi/endpoint.h"
#include "tests/support/tmpdir.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static struct endpoint at(const struct tmpdir *t, const char *name)
{
    struct endpoint e;
    struct error err = ERROR_INIT;
    if (endpoint_parse(tmpdir_path(t, name), &e, &err) < 0)
        fail_msg("%s", err.msg);
    return e;
}

static int listen_at(const char *path)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    memcpy(to.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void accepts_the_three_forms(void **state)
{
    static const char *const forms[] = { "unix:///run/csi.sock", "unix:/run/csi.sock",
                                         "/run/csi.sock" };
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        struct endpoint e;
        struct error err = ERROR_INIT;
        assert_int_equal(endpoint_parse(forms[i], &e, &err), 0);
        assert_string_equal(e.path, "/run/csi.sock");
        assert_string_equal(e.target, "unix:/run/csi.sock");
    }
}

static void refuses_other_forms(void **state)
{
    char longer[140];
    memset(longer, 'a', sizeof(longer) - 1);
    longer[0] = '/';
    longer[sizeof(longer) - 1] = '\0';
    const char *const forms[] = {
        "", "csi.sock", "unix:", "unix:csi.sock", "tcp://host:5", "unix:///run/", "/", longer
    };
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        struct endpoint e;
        struct error err = ERROR_INIT;
        assert_int_equal(endpoint_parse(forms[i], &e, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_non_null(strstr(err.msg, "endpoint '"));
    }
}

static void special_characters_mean_themselves(void **state)
{
    struct endpoint e;
    struct error err = ERROR_INIT;
    assert_int_equal(endpoint_parse("/run/a%b?c#d e", &e, &err), 0);
    assert_string_equal(e.path, "/run/a%b?c#d e");
    assert_string_equal(e.target, "unix:/run/a%25b%3Fc%23d%20e");
}

static void only_one_holds_the_lock(void **state)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    struct endpoint e = at(&t, "csi.sock");
    struct error err = ERROR_INIT;
    int first = -1;
    AUTO_CLOSE int second = -1;
    assert_int_equal(endpoint_claim(&e, &first, &err), 0);
    assert_int_equal(endpoint_claim(&e, &second, &err), -1);
    assert_int_equal(err.code, ERR_PRECONDITION);
    assert_non_null(strstr(err.msg, "another process already serves '"));
    close(first);
    assert_int_equal(endpoint_claim(&e, &second, &err), 0);
    struct stat st;
    assert_int_equal(fstat(second, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

static void a_stale_socket_goes(void **state)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    struct endpoint e = at(&t, "csi.sock");
    struct error err = ERROR_INIT;
    AUTO_CLOSE int fd = -1;
    close(listen_at(e.path)); /* nobody listens any more, the file stays */
    assert_int_equal(access(e.path, F_OK), 0);
    assert_int_equal(endpoint_claim(&e, &fd, &err), 0);
    assert_int_equal(access(e.path, F_OK), -1);
}

static void a_live_socket_without_lock_stays(void **state)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    struct endpoint e = at(&t, "csi.sock");
    struct error err = ERROR_INIT;
    AUTO_CLOSE int fd = -1;
    AUTO_CLOSE int live UNUSED = listen_at(e.path);
    assert_int_equal(endpoint_claim(&e, &fd, &err), -1);
    assert_int_equal(err.code, ERR_PRECONDITION);
    assert_non_null(strstr(err.msg, "without its lock file"));
    assert_int_equal(access(e.path, F_OK), 0);
}

static void what_is_not_a_socket_stays(void **state)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    struct endpoint e = at(&t, "csi.sock");
    struct error err = ERROR_INIT;
    AUTO_CLOSE int fd = -1;
    tmpdir_write(&t, "csi.sock", "data", 4);
    assert_int_equal(endpoint_claim(&e, &fd, &err), -1);
    assert_int_equal(err.code, ERR_PRECONDITION);
    assert_non_null(strstr(err.msg, "is not a socket"));
    AUTO_FREE char *text = tmpdir_read(&t, "csi.sock");
    assert_string_equal(text, "data");
}

static void a_lock_file_that_is_a_symlink_is_refused(void **state)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    struct endpoint e = at(&t, "csi.sock");
    struct error err = ERROR_INIT;
    AUTO_CLOSE int fd = -1;
    assert_int_equal(symlinkat("elsewhere", t.fd, "csi.sock.lock"), 0);
    assert_int_equal(endpoint_claim(&e, &fd, &err), -1);
    assert_int_equal(faccessat(t.fd, "elsewhere", F_OK, 0), -1);
}

/* Claimed, and bound where nobody looks. */
static int bind_hidden(const struct tmpdir *t, const struct endpoint *e, struct endpoint *hidden,
                       int *lock)
{
    struct error err = ERROR_INIT;
    assert_int_equal(endpoint_claim(e, lock, &err), 0);
    assert_int_equal(endpoint_hide(e, hidden, &err), 0);
    assert_string_equal(hidden->path, tmpdir_path(t, ".csi.sock"));
    return listen_at(hidden->path);
}

static void a_published_socket_is_known_again_and_removed(void **state)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    struct endpoint e = at(&t, "csi.sock"), hidden;
    struct endpoint_id id = { 0 };
    struct error err = ERROR_INIT;
    AUTO_CLOSE int lock = -1;
    AUTO_CLOSE int fd UNUSED = bind_hidden(&t, &e, &hidden, &lock);
    assert_false(endpoint_is(&e, &id));
    assert_int_equal(endpoint_publish(&hidden, &e, &id, &err), 0);
    assert_true(endpoint_is(&e, &id));
    assert_int_equal(access(hidden.path, F_OK), -1);
    endpoint_remove(&e, &id);
    assert_int_equal(access(e.path, F_OK), -1);
    assert_false(endpoint_is(&e, &id));
    endpoint_remove(&e, &id);
}

static void somebody_else_s_socket_is_not_removed(void **state)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    struct endpoint e = at(&t, "csi.sock"), hidden;
    struct endpoint_id id;
    struct error err = ERROR_INIT;
    AUTO_CLOSE int lock = -1;
    AUTO_CLOSE int fd UNUSED = bind_hidden(&t, &e, &hidden, &lock);
    assert_int_equal(endpoint_publish(&hidden, &e, &id, &err), 0);
    assert_int_equal(unlink(e.path), 0);
    AUTO_CLOSE int other UNUSED = listen_at(e.path);
    assert_false(endpoint_is(&e, &id));
    endpoint_remove(&e, &id);
    assert_int_equal(access(e.path, F_OK), 0);
}

static void nothing_is_published_over(void **state)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    struct endpoint e = at(&t, "csi.sock"), hidden;
    struct endpoint_id id = { 0 };
    struct error err = ERROR_INIT;
    AUTO_CLOSE int lock = -1;
    AUTO_CLOSE int fd UNUSED = bind_hidden(&t, &e, &hidden, &lock);
    tmpdir_write(&t, "csi.sock", "data", 4);
    assert_int_equal(endpoint_publish(&hidden, &e, &id, &err), -1);
    assert_non_null(strstr(err.msg, "move the socket to"));
    AUTO_FREE char *text = tmpdir_read(&t, "csi.sock");
    assert_string_equal(text, "data");
}

static void a_hidden_left_over_goes(void **state)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    struct endpoint e = at(&t, "csi.sock"), hidden;
    struct error err = ERROR_INIT;
    close(listen_at(tmpdir_path(&t, ".csi.sock"))); /* killed before it was published */
    assert_int_equal(endpoint_hide(&e, &hidden, &err), 0);
    assert_int_equal(access(hidden.path, F_OK), -1);
}

static void a_name_that_can_t_be_hidden_is_refused(void **state)
{
    char path[ENDPOINT_PATH_MAX + 1];
    struct endpoint e, hidden;
    struct error err = ERROR_INIT;
    memset(path, 'a', sizeof(path) - 1);
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(endpoint_parse(path, &e, &err), 0);
    assert_int_equal(endpoint_hide(&e, &hidden, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_the_three_forms),
        cmocka_unit_test(refuses_other_forms),
        cmocka_unit_test(special_characters_mean_themselves),
        cmocka_unit_test(only_one_holds_the_lock),
        cmocka_unit_test(a_stale_socket_goes),
        cmocka_unit_test(a_live_socket_without_lock_stays),
        cmocka_unit_test(what_is_not_a_socket_stays),
        cmocka_unit_test(a_lock_file_that_is_a_symlink_is_refused),
        cmocka_unit_test(a_published_socket_is_known_again_and_removed),
        cmocka_unit_test(somebody_else_s_socket_is_not_removed),
        cmocka_unit_test(nothing_is_published_over),
        cmocka_unit_test(a_hidden_left_over_goes),
        cmocka_unit_test(a_name_that_can_t_be_hidden_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

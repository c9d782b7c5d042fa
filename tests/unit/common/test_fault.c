/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/fault.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "tests/support/tmpdir.h"
#include "tests/support/unit.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef COFFER_FAULT

static void test_absent(void **state UNUSED)
{
    assert_false(FAULT_FAIL("x"));
    FAULT_POINT("x");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_absent) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

#define P "test_fault"

static struct tmpdir t;

static int setup(void **state UNUSED)
{
    t = tmpdir_make();
    return setenv("COFFER_FAULT_DIR", t.path, 1);
}

static int teardown(void **state UNUSED)
{
    tmpdir_remove(&t);
    return unsetenv("COFFER_FAULT_DIR");
}

static void arm(const char *text)
{
    tmpdir_write(&t, P ".arm", text, strlen(text));
}

static void expect_trace(const char *wanted)
{
    AUTO_FREE char *text = tmpdir_read(&t, P ".trace");

    assert_string_equal(text != NULL ? text : "(none)", wanted);
}

/* Passes the points a, b, a; exits with 1 for each that was to fail. */
static int walk(void)
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        const struct rlimit none = { 0, 0 };
        int failed;

        (void)setrlimit(RLIMIT_CORE, &none);
        failed = FAULT_FAIL("a");
        FAULT_POINT("b");
        failed += FAULT_FAIL("a");
        _exit(failed);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void expect_exit(int code)
{
    int status = walk();

    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), code);
}

static void expect_kill(void)
{
    int status = walk();

    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void test_unarmed(void **state UNUSED)
{
    expect_exit(0);
    expect_trace("(none)");
    (void)unsetenv("COFFER_FAULT_DIR");
    arm("fail a");
    expect_exit(0);
    (void)setenv("COFFER_FAULT_DIR", t.path, 1);
    expect_exit(2);
}

static void test_record(void **state UNUSED)
{
    arm("record\n");
    expect_exit(0);
    expect_trace("a\nb\na\n");
}

static void test_kill_number(void **state UNUSED)
{
    arm("kill 2");
    expect_kill();
    expect_trace("a\nb\n");
    expect_exit(0); /* the count goes on: 3, 4, 5 */
    expect_trace("a\nb\na\nb\na\n");
    tmpdir_write(&t, P ".trace", "", 0);
    arm("kill 3");
    expect_kill();
    expect_trace("a\nb\na\n");
    tmpdir_write(&t, P ".trace", "", 0);
    arm("kill 4");
    expect_exit(0);
}

static void test_names(void **state UNUSED)
{
    arm("kill b");
    expect_kill();
    arm("kill c");
    expect_exit(0);
    arm("fail b");
    expect_exit(0);
    arm("fail a");
    expect_exit(2);
    expect_trace("(none)");
}

static void test_pause(void **state UNUSED)
{
    uint64_t end = deadline_in(20000);
    int status;
    pid_t pid;

    arm("pause b");
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        FAULT_POINT("a");
        FAULT_POINT("b");
        _exit(7);
    }
    while (faccessat(t.fd, P ".paused", F_OK, 0) < 0 && deadline_left(end) > 0)
        sleep_ms(5);
    sleep_ms(50);
    assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
    assert_int_equal(faccessat(t.fd, P ".paused", F_OK, 0), 0);
    assert_int_equal(unlinkat(t.fd, P ".arm", 0), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 7);
    assert_int_equal(faccessat(t.fd, P ".paused", F_OK, 0), -1);
}

static void test_broken(void **state UNUSED)
{
    int status, saved = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    arm("record");
    assert_int_equal(mkdirat(t.fd, P ".trace", 0700), 0);
    (void)dup2(null, STDERR_FILENO);
    status = walk();
    (void)dup2(saved, STDERR_FILENO);
    (void)close(saved);
    (void)close(null);
    assert_true(
        WIFSIGNALED(status)); /* a sweep must not pass because its trace could not be written */
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_unarmed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_record, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kill_number, setup, teardown),
        cmocka_unit_test_setup_teardown(test_names, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pause, setup, teardown),
        cmocka_unit_test_setup_teardown(test_broken, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif

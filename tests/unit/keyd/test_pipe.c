/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/pipe.h"

#include "common/cleanup.h"
#include "keyd/frame.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct secret *sample_key(void)
{
    struct error err = ERROR_INIT;
    struct secret *key = secret_new(KEY_BYTES, &err);
    assert_non_null(key);
    assert_int_equal(secret_random(key, KEY_BYTES, &err), 0);
    return key;
}

static void expect_refused(int fd, const char *sentence)
{
    struct error err = ERROR_INIT;
    assert_true(fd >= 0);
    assert_int_equal(key_pipe_check(fd, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_string_equal(err.msg, sentence);
}

static void test_frame(void **state UNUSED)
{
    int p[2];
    struct key_frame frame;
    struct error err = ERROR_INIT;
    AUTO_SECRET struct secret *key = sample_key();
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    assert_int_equal(key_pipe_check(p[1], &err), 0);
    assert_int_equal(key_pipe_write(p[1], key, &err), 0);
    assert_int_equal(read(p[0], &frame, sizeof(frame)), (ssize_t)sizeof(frame));
    assert_int_equal(sizeof(frame), 48);
    assert_memory_equal(&frame, "COFK\0\0\0\0\x20\0\0\0\0\0\0\0", 16);
    assert_memory_equal(frame.key, secret_data(key), KEY_BYTES);
    (void)close(p[0]);
    (void)close(p[1]);
}

static void test_not_a_pipe(void **state UNUSED)
{
    int sockets[2];
    AUTO_CLOSE int file = memfd_create("x", MFD_CLOEXEC);
    AUTO_CLOSE int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    expect_refused(file, "the descriptor is not a pipe");
    expect_refused(null, "the descriptor is not a pipe");
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    expect_refused(sockets[0], "the descriptor is not a pipe");
    (void)close(sockets[0]);
    (void)close(sockets[1]);
}

static void test_named_fifo(void **state UNUSED)
{
    char name[64];
    assert_true(snprintf(name, sizeof(name), "/tmp/coffer-fifo-%d", (int)getpid()) > 0);
    assert_int_equal(mkfifo(name, 0600), 0);
    AUTO_CLOSE int reader = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    AUTO_CLOSE int writer = open(name, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    (void)unlink(name);
    expect_refused(writer, "the descriptor is not a pipe");
    assert_true(reader >= 0);
}

static void test_wrong_end(void **state UNUSED)
{
    int p[2];
    char path[32];
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    expect_refused(p[0], "the descriptor is not the write end of a pipe");
    assert_true(snprintf(path, sizeof(path), "/proc/self/fd/%d", p[1]) > 0);
    AUTO_CLOSE int both = open(path, O_RDWR | O_CLOEXEC);
    expect_refused(both, "the descriptor is not the write end of a pipe");
    (void)close(p[0]);
    (void)close(p[1]);
}

static void test_full(void **state UNUSED)
{
    int p[2];
    char block[4096] = { 0 };
    struct error err = ERROR_INIT;
    AUTO_SECRET struct secret *key = sample_key();
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    assert_int_equal(key_pipe_check(p[1], &err), 0);
    while (write(p[1], block, sizeof(block)) > 0)
        continue;
    assert_int_equal(key_pipe_write(p[1], key, &err), -1);
    assert_int_equal(err.code, ERR_PRECONDITION);
    assert_string_equal(err.msg, "the pipe is full");
    (void)close(p[0]);
    (void)close(p[1]);
}

static void test_no_reader(void **state UNUSED)
{
    int p[2];
    struct error err = ERROR_INIT;
    AUTO_SECRET struct secret *key = sample_key();
    (void)signal(SIGPIPE, SIG_IGN);
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    (void)close(p[0]);
    assert_int_equal(key_pipe_check(p[1], &err), 0);
    assert_int_equal(key_pipe_write(p[1], key, &err), -1);
    assert_int_equal(err.code, ERR_CANCELED);
    (void)close(p[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame),      cmocka_unit_test(test_not_a_pipe),
        cmocka_unit_test(test_named_fifo), cmocka_unit_test(test_wrong_end),
        cmocka_unit_test(test_full),       cmocka_unit_test(test_no_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

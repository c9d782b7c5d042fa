/* SPDX-License-Identifier: Apache-2.0 */
/* The client against a scripted peer: every way coffer-keyd can answer, not answer or be wrong. */
#include "common/base.h"
#include "keyd/client.h"

#include "common/deadline.h"
#include "keyd/recv.h"
#include "keyd/wire.h"
#include "tests/support/tmpdir.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const struct keyd_binding binding = {
    .kms = "dev",
    .tenant = "team-a",
    .volume_id = "fast.0a1b2c3d.00112233445566778899aabbccddeeff",
    .uuid = "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
};
static const struct keyd_wrapped wrapped = { .kind = "file",
                                             .ciphertext = "file:v1:AAAA",
                                             .version = 1 };

/* A peer for one connection: reads one request (unless it refuses at once), sends `answer`, closes.
 */
struct peer {
    struct tmpdir dir;
    char path[600];
    int listener;
    pthread_t thread;
    bool refuse_unread; /* answer and close without reading the request */
    bool silent;        /* hold the connection without an answer for a while */
    struct wire_reply answer;
    uint16_t raw_version; /* not 0: put into the answer's header */
    size_t cut;           /* bytes missing at the answer's end */
    struct wire_request got;
    size_t got_fds;
};

static void peer_answer(struct peer *p, int fd)
{
    static struct wire_frame frame;
    struct error err = ERROR_INIT;
    if (p->answer.code[0] == '\0')
        return;
    if (wire_reply_encode(&p->answer, &frame, &err) < 0)
        abort();
    if (p->raw_version != 0)
        frame.bytes[4] = (unsigned char)p->raw_version;
    if (send(fd, frame.bytes, frame.len - p->cut, MSG_NOSIGNAL) < 0)
        abort();
}

static void peer_read(struct peer *p, int fd)
{
    static struct received in;
    struct error err = ERROR_INIT;
    if (receive_frame(fd, &in, &err) != RECV_FRAME ||
        wire_request_decode(in.frame.bytes, in.frame.len, &p->got, &err) < 0)
        abort();
    p->got_fds = in.n_fds;
    for (size_t i = 0; i < in.n_fds; i++) {
        if (write(in.fds[i], "key", 3) != 3)
            abort();
    }
    received_release(&in);
}

static void *peer_run(void *arg)
{
    struct peer *p = arg;
    int fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return NULL;
    if (p->refuse_unread)
        sleep_ms(50); /* so that the request is in our queue when we close */
    else
        peer_read(p, fd);
    if (p->silent)
        sleep_ms(300);
    peer_answer(p, fd);
    (void)close(fd);
    return NULL;
}

static void peer_start(struct peer *p)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    p->dir = tmpdir_make();
    assert_true(snprintf(p->path, sizeof(p->path), "%s/s", p->dir.path) > 0);
    assert_int_equal(str_copy(address.sun_path, sizeof(address.sun_path), p->path), 0);
    p->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(p->listener, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(p->listener, 1), 0);
    assert_int_equal(pthread_create(&p->thread, NULL, peer_run, p), 0);
}

static void peer_stop(struct peer *p)
{
    assert_int_equal(pthread_join(p->thread, NULL), 0);
    (void)close(p->listener);
    tmpdir_remove(&p->dir);
}

static void test_mint(void **state UNUSED)
{
    struct peer p = { .answer = { .op = WIRE_MINT,
                                  .code = WIRE_OK,
                                  .kind = "file",
                                  .ciphertext = "file:v1:BBBB",
                                  .key_version = 4 } };
    struct keyd_wrapped key = { .version = 0 };
    struct error err = ERROR_INIT;
    peer_start(&p);
    assert_int_equal(keyd_mint(p.path, &binding, deadline_in(5000), &key, &err), 0);
    peer_stop(&p);
    assert_string_equal(key.kind, "file");
    assert_string_equal(key.ciphertext, "file:v1:BBBB");
    assert_true(key.version == 4);
    assert_string_equal(p.got.tenant, "team-a");
    assert_string_equal(p.got.uuid, binding.uuid);
    assert_int_equal(p.got_fds, 0);
    assert_true(p.got.deadline_ms > 1000 && p.got.deadline_ms <= 5000);
}

static void test_unwrap_sends_the_descriptor(void **state UNUSED)
{
    struct peer p = { .answer = { .op = WIRE_UNWRAP, .code = WIRE_OK } };
    struct error err = ERROR_INIT;
    int ends[2];
    char got[8];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    peer_start(&p);
    assert_int_equal(keyd_unwrap(p.path, &binding, &wrapped, KEYD_USE_BREAK_GLASS, NULL, ends[1],
                                 DEADLINE_NEVER, &err),
                     0);
    peer_stop(&p);
    assert_int_equal(p.got_fds, 1);
    assert_string_equal(p.got.use, "break-glass");
    assert_string_equal(p.got.ciphertext, "file:v1:AAAA");
    assert_true(p.got.deadline_ms == UINT64_MAX);
    assert_int_equal(read(ends[0], got, sizeof(got)), 3);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static struct keyd_session a_session(void)
{
    return (struct keyd_session){ .commitment = "cc",
                                  .fingerprint = "ff",
                                  .server_key = "coffer-s-1:3",
                                  .data = "ses\0sion",
                                  .len = 8 };
}

static void test_unwrap_client(void **state UNUSED)
{
    struct peer p = { .answer = { .op = WIRE_UNWRAP_CLIENT, .code = WIRE_OK } };
    const struct keyd_session session = a_session();
    struct error err = ERROR_INIT;
    int ends[2];
    char got[8];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    peer_start(&p);
    assert_int_equal(keyd_unwrap_client(p.path, &binding, &session, KEYD_USE_EXPAND, ends[1],
                                        DEADLINE_NEVER, &err),
                     0);
    peer_stop(&p);
    assert_int_equal(p.got_fds, 1);
    assert_string_equal(p.got.use, "expand");
    assert_string_equal(p.got.volume_id, binding.volume_id);
    assert_string_equal(p.got.commitment, "cc");
    assert_string_equal(p.got.fingerprint, "ff");
    assert_string_equal(p.got.server_key, "coffer-s-1:3");
    assert_int_equal(p.got.session.len, 8);
    assert_int_equal(read(ends[0], got, sizeof(got)), 3);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

/* Nobody is asked. */
static void test_session_too_long(void **state UNUSED)
{
    static char text[KEYD_SERVER_KEY_MAX + 2];
    struct keyd_session session = a_session();
    struct error err = ERROR_INIT;
    memset(text, 'x', sizeof(text) - 1);
    session.len = KEYD_SESSION_MAX + 1;
    assert_int_equal(
        keyd_unwrap_client("/nowhere", &binding, &session, KEYD_USE_STAGE, -1, 0, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_string_equal(err.msg, "the session is longer than 512 bytes");
    session = a_session();
    session.server_key = text;
    err = (struct error)ERROR_INIT;
    assert_int_equal(
        keyd_unwrap_client("/nowhere", &binding, &session, KEYD_USE_STAGE, -1, 0, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void test_server_key(void **state UNUSED)
{
    struct peer p = { .answer = { .op = WIRE_SERVER_KEY,
                                  .code = WIRE_OK,
                                  .key_id = "coffer-s-1:3",
                                  .hash = "SHA-256",
                                  .public_key = { .data = "d\0er", .len = 4 } } };
    struct keyd_server_key key = { .hash = "" };
    struct error err = ERROR_INIT;
    peer_start(&p);
    assert_int_equal(keyd_server_key(p.path, "dev", deadline_in(5000), &key, &err), 0);
    peer_stop(&p);
    assert_string_equal(p.got.kms, "dev");
    assert_string_equal(key.key_id, "coffer-s-1:3");
    assert_string_equal(key.hash, "SHA-256");
    assert_int_equal(key.public_key_len, 4);
    assert_memory_equal(key.public_key, "d\0er", 4);
}

static void test_status(void **state UNUSED)
{
    struct peer p = {
        .answer = { .op = WIRE_STATUS, .code = WIRE_OK, .text = { .data = "{}", .len = 2 } }
    };
    struct error err = ERROR_INIT;
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(100);
    peer_start(&p);
    assert_int_equal(keyd_status(p.path, deadline_in(5000), &sb, &err), 0);
    peer_stop(&p);
    assert_string_equal(strbuf_text(&sb), "{}");
}

static void expect_failure(struct peer *p, uint64_t deadline_ms, enum error_code code,
                           const char *msg)
{
    struct keyd_wrapped key = { .version = 99 };
    struct error err = ERROR_INIT;
    peer_start(p);
    assert_int_equal(keyd_mint(p->path, &binding, deadline_in(deadline_ms), &key, &err), -1);
    peer_stop(p);
    assert_string_equal(err.msg, msg);
    assert_int_equal(err.code, code);
    assert_true(key.version == 99);
}

static void test_error_reply(void **state UNUSED)
{
    struct peer p = {
        .answer = { .op = WIRE_MINT, .code = "FAILED_PRECONDITION", .message = "no such key" }
    };
    expect_failure(&p, 5000, ERR_PRECONDITION, "coffer-keyd: no such key");
}

static void test_refused_peer(void **state UNUSED)
{
    struct peer p = {
        .answer = { .op = WIRE_NONE, .code = "PERMISSION_DENIED", .message = "not you" },
        .refuse_unread = true
    };
    expect_failure(&p, 5000, ERR_PERMISSION, "coffer-keyd: not you");
}

static void test_other_version(void **state UNUSED)
{
    struct peer p = { .answer = { .op = WIRE_NONE, .code = "ABORTED" }, .raw_version = 2 };
    expect_failure(&p, 5000, ERR_UNAVAILABLE,
                   "coffer-keyd speaks wire version 2, this program version 1");
}

static void test_malformed_answer(void **state UNUSED)
{
    struct peer p = { .answer = { .op = WIRE_MINT, .code = WIRE_OK }, .cut = 1 };
    expect_failure(
        &p, 5000, ERR_UNAVAILABLE,
        "coffer-keyd's answer is malformed: frame: the header's length is not the frame's");
}

static void test_answer_to_another_op(void **state UNUSED)
{
    struct peer p = { .answer = { .op = WIRE_UNWRAP, .code = WIRE_OK } };
    expect_failure(&p, 5000, ERR_UNAVAILABLE, "coffer-keyd answered another request");
}

static void test_no_answer(void **state UNUSED)
{
    struct peer p = { .refuse_unread = false };
    expect_failure(&p, 5000, ERR_UNAVAILABLE,
                   "coffer-keyd closed the connection without an answer");
    p = (struct peer){ .refuse_unread = true };
    expect_failure(&p, 5000, ERR_UNAVAILABLE,
                   "coffer-keyd closed the connection without an answer");
}

static void test_deadline(void **state UNUSED)
{
    struct peer p = { .silent = true };
    uint64_t started = clock_ms();
    expect_failure(&p, 50, ERR_DEADLINE, "coffer-keyd did not answer in time");
    assert_true(clock_ms() - started < 30000);
}

static void test_nobody_there(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir dir = tmpdir_make();
    struct keyd_wrapped key;
    struct error err = ERROR_INIT;
    assert_int_equal(keyd_mint(tmpdir_path(&dir, "none"), &binding, deadline_in(1000), &key, &err),
                     -1);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_int_equal(keyd_mint(tmpdir_path(&dir, "none"), &binding, 1, &key, &err), -1);
    assert_int_equal(err.code, ERR_DEADLINE);
    char long_path[300];
    memset(long_path, 'x', sizeof(long_path));
    long_path[0] = '/';
    long_path[sizeof(long_path) - 1] = '\0';
    assert_int_equal(keyd_mint(long_path, &binding, deadline_in(1000), &key, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void test_name_too_long(void **state UNUSED)
{
    struct keyd_binding b = binding;
    struct keyd_wrapped key;
    struct error err = ERROR_INIT;
    b.tenant = "a-name-of-a-tenant-that-is-longer-than-the-sixty-three-characters-of-a-label";
    assert_int_equal(keyd_mint("/nonexistent", &b, deadline_in(1000), &key, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

/* An empty path is an abstract name to the kernel: anybody could answer there. */
static void test_socket_path(void **state UNUSED)
{
    static const char *const bad[] = { "", "keyd.sock", "@keyd" };
    struct error err = ERROR_INIT;
    struct keyd_wrapped key;
    char text[200];

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(keyd_mint(bad[i], &binding, deadline_in(5000), &key, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_non_null(strstr(err.msg, "must be absolute"));
    }
    memset(text, 'x', sizeof(text));
    text[0] = '/';
    text[108] = '\0';
    assert_int_equal(keyd_socket_check(text, &err), -1);
    assert_non_null(strstr(err.msg, "longer than 107 bytes"));
    text[107] = '\0';
    assert_int_equal(keyd_socket_check(text, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mint),
        cmocka_unit_test(test_unwrap_sends_the_descriptor),
        cmocka_unit_test(test_unwrap_client),
        cmocka_unit_test(test_session_too_long),
        cmocka_unit_test(test_server_key),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_error_reply),
        cmocka_unit_test(test_refused_peer),
        cmocka_unit_test(test_other_version),
        cmocka_unit_test(test_malformed_answer),
        cmocka_unit_test(test_answer_to_another_op),
        cmocka_unit_test(test_no_answer),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_name_too_long),
        cmocka_unit_test(test_socket_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

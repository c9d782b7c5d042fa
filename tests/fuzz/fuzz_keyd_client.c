/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of keyd over its real socket: byte 0 is the operation, the rest what "keyd" answers
 * (nothing: it hangs up). Whatever comes back, the request was a right frame, the outputs are
 * either whole or untouched, and nothing waits for ever.
 *
 * covers: keyd/client.c
 * but: too_late (what is sent at once is never late)
 */
#include "tests/fuzz/target.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "keyd/client.h"
#include "common/listen.h"
#include "keyd/wire.h"
#include "tests/support/tmpdir.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define ID "fast.0a1b2c3d.00112233445566778899aabbccddeeff"

static const struct keyd_binding binding = { "lab", "team", ID,
                                             "6ba7b810-9dad-41d1-80b4-00c04fd430c8" };
static const struct keyd_wrapped wrapped = { "file", "file:v1:AAAA", 1 };

static struct {
    struct tmpdir dir;
    char path[600];
    struct listener listener;
    pthread_mutex_t lock; /* the answer */
    const uint8_t *answer;
    size_t len;
} played = { .listener = LISTENER_INIT, .lock = PTHREAD_MUTEX_INITIALIZER };

static void answer_one(int fd)
{
    static struct wire_frame in;
    struct wire_request request;
    struct error err = ERROR_INIT;
    ssize_t n = recv(fd, in.bytes, sizeof(in.bytes), 0);

    must(n > 0 && wire_request_decode(in.bytes, (size_t)n, &request, &err) == 0);
    pthread_mutex_lock(&played.lock);
    if (played.len > 0)
        (void)!send(fd, played.answer, played.len, MSG_NOSIGNAL);
    pthread_mutex_unlock(&played.lock);
}

static void *play(void *unused UNUSED)
{
    for (;;) {
        struct pollfd p = { .fd = played.listener.fd, .events = POLLIN };
        (void)poll(&p, 1, -1);
        AUTO_CLOSE int fd = accept4(played.listener.fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            answer_one(fd);
    }
    return NULL;
}

static void clean_up(void)
{
    tmpdir_remove(&played.dir);
}

static void start(void)
{
    static bool started;
    struct error err = ERROR_INIT;
    pthread_t thread;

    if (started)
        return;
    started = true;
    played.dir = tmpdir_make();
    must(atexit(clean_up) == 0);
    (void)snprintf(played.path, sizeof(played.path), "%s/keyd.sock", played.dir.path);
    must(listener_open(played.path, SOCK_SEQPACKET, LISTEN_OWN_GROUP, &played.listener, &err) == 0);
    must(pthread_create(&thread, NULL, play, NULL) == 0 && pthread_detach(thread) == 0);
}

static void ask_mint(uint64_t deadline)
{
    struct keyd_wrapped key;
    struct error err = ERROR_INIT;

    mark(&key, sizeof(key));
    if (keyd_mint(played.path, &binding, deadline, &key, &err) == 0) {
        must(utf8_valid(key.kind, strlen(key.kind)) && strlen(key.ciphertext) <= WRAPPED_KEY_MAX);
        return;
    }
    must_be_sentence(&err);
    must_be_marked(&key, sizeof(key));
}

static void ask_unwrap(uint64_t deadline)
{
    struct error err = ERROR_INIT;
    int pipe_fds[2];
    char byte;

    must(pipe2(pipe_fds, O_CLOEXEC) == 0);
    if (keyd_unwrap(played.path, &binding, &wrapped, KEYD_USE_STAGE, NULL, pipe_fds[1], deadline,
                    &err) < 0)
        must_be_sentence(&err);
    (void)close(pipe_fds[1]);
    must(read(pipe_fds[0], &byte, 1) == 0); /* the played keyd wrote nothing into it */
    (void)close(pipe_fds[0]);
}

static void ask_unwrap_client(uint64_t deadline)
{
    const struct keyd_session session = { "c", "f", "coffer-s-1:1", "session", 7 };
    struct error err = ERROR_INIT;
    int pipe_fds[2];
    char byte;

    must(pipe2(pipe_fds, O_CLOEXEC) == 0);
    if (keyd_unwrap_client(played.path, &binding, &session, KEYD_USE_STAGE, pipe_fds[1], deadline,
                           &err) < 0)
        must_be_sentence(&err);
    (void)close(pipe_fds[1]);
    must(read(pipe_fds[0], &byte, 1) == 0);
    (void)close(pipe_fds[0]);
}

static void ask_server_key(uint64_t deadline)
{
    struct keyd_server_key key;
    struct error err = ERROR_INIT;

    mark(&key, sizeof(key));
    if (keyd_server_key(played.path, "lab", deadline, &key, &err) == 0) {
        must(key.public_key_len <= sizeof(key.public_key));
        must(utf8_valid(key.key_id, strlen(key.key_id)));
        return;
    }
    must_be_sentence(&err);
    must_be_marked(&key, sizeof(key));
}

static void ask_wrap_for(uint64_t deadline)
{
    static const unsigned char public_key[] = "not looked at by a client";
    const struct keyd_recipient to = { "RSA-OAEP-SHA256", public_key, sizeof(public_key) };
    unsigned char out[RECIPIENT_WRAPPED_MAX];
    struct error err = ERROR_INIT;
    size_t len = 0;

    mark(out, sizeof(out));
    if (keyd_wrap_for(played.path, &binding, &wrapped, &to, deadline, out, &len, &err) == 0) {
        must(len > 0 && len <= sizeof(out));
        return;
    }
    must_be_sentence(&err);
    must(len == 0);
    must_be_marked(out, sizeof(out));
}

static void ask_destroy(uint64_t deadline)
{
    struct error err = ERROR_INIT;

    if (keyd_destroy(played.path, &binding, deadline, &err) < 0)
        must_be_sentence(&err);
}

static void ask_status(uint64_t deadline)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(WIRE_FRAME_MAX);
    struct error err = ERROR_INIT;

    if (keyd_status(played.path, deadline, &text, &err) == 0)
        return;
    must(text.len == 0);
    must_be_sentence(&err);
}

/* The answer's bytes as a socket's path: nobody is there. */
static void ask_nobody(uint64_t deadline)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(WIRE_FRAME_MAX);
    struct error err = ERROR_INIT;
    char path[256], name[200];

    (void)snprintf(name, sizeof(name), "%.*s", (int)(played.len < 199 ? played.len : 199),
                   (const char *)played.answer);
    for (char *p = name; *p != '\0'; p++)
        if (*p == '/')
            *p = '_';
    (void)snprintf(path, sizeof(path), "%s%s", name[0] == '-' ? "" : "/proc/self/none/", name);
    must(keyd_status(path, deadline, &text, &err) < 0 && text.len == 0);
    must(err.code == ERR_INVALID || err.code == ERR_UNAVAILABLE);
    must_be_sentence(&err);
}

static void give(const uint8_t *answer, size_t len)
{
    pthread_mutex_lock(&played.lock);
    played.answer = answer;
    played.len = len;
    pthread_mutex_unlock(&played.lock);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const asks[])(
        uint64_t deadline) = { ask_mint,       ask_unwrap,   ask_status,  ask_unwrap_client,
                               ask_server_key, ask_wrap_for, ask_destroy, ask_nobody };

    if (size == 0)
        return 0;
    start();
    give(data + 1, size - 1);
    asks[data[0] % ARRAY_SIZE(asks)](deadline_in(120000));
    give(NULL, 0); /* the other thread is done with it */
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real keyd server in a thread, with a file key service: byte 0 says which descriptors come
 * along, the rest is the packet. keyd answers with one right frame or hangs up; a key comes through
 * the pipe after an OK to UNWRAP and never otherwise.
 *
 * covers: keyd/server.c keyd/recv.c keyd/ops.c keyd/pipe.c keyd/kms.c keyd/kms_file.c
 * volume/context.c
 * but: pause_listener on_pause_over tidy on_idle log_counters on_signal server_free failed
 * kms_set_free file_close (time, load, signals, the end) but: kms_set_network kms_set_stop
 * on_stopped (services at a network)
 */
#include "tests/fuzz/target.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "keyd/frame.h"
#include "keyd/server.h"
#include "tests/support/tmpdir.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DESCRIPTORS_MAX 3
enum {
    SEND_NONE,
    SEND_PIPE,
    SEND_READ_END,
    SEND_FILE,
    SEND_TWO,
    SEND_FULL,
    SEND_CLOSED,
    SEND_KINDS
};

static struct {
    struct tmpdir dir;
    char path[600];
    struct listener listener;
    struct rights rights;
    struct keyd keyd;
} real = { .listener = LISTENER_INIT };

static void clean_up(void)
{
    tmpdir_remove(&real.dir);
}

static void *serve(void *unused UNUSED)
{
    AUTO_EVENT_LOOP struct event_loop *loop = NULL;
    AUTO_SERVER struct server *s = NULL;
    struct error err = ERROR_INIT;

    must(event_loop_new(&loop, &err) == 0);
    const struct server_options o = { .loop = loop,
                                      .listener = &real.listener,
                                      .rights = &real.rights,
                                      .keyd = &real.keyd,
                                      .idle_ms = 600000 };
    must(server_new(&o, &s, &err) == 0 && server_run(s, &err) == 0);
    return NULL;
}

/* The master key is the same in every run: seeds hold keys that it wrapped. */
static void open_kms(void)
{
    AUTO_CONFIG struct config *config = NULL;
    const struct kms_env env = { .allow_insecure = true, .mint = true, .unwrap = true };
    struct kms_set *set = NULL;
    struct error err = ERROR_INIT;
    char text[2048];

    tmpdir_write(&real.dir, "master", "0123456789abcdef0123456789abcdef", 32);
    (void)snprintf(text, sizeof(text),
                   "{\"pools\":{\"fast\":{\"backend\":\"file\",\"path\":\"/p\",\"kms\":[\"lab\"],"
                   "\"allocate\":\"full\"}},\"kms\":{\"lab\":{\"uri\":\"file://%s/master\"}}}",
                   real.dir.path);
    must(config_decode(text, strlen(text), &config, &err) == 0);
    must(kms_set_open(config, &env, &set, &err) == 0);
    real.keyd.kms = set;
}

static void start(void)
{
    static bool started;
    struct error err = ERROR_INIT;
    pthread_t thread;

    if (started)
        return;
    started = true;
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    real.dir = tmpdir_make();
    must(atexit(clean_up) == 0);
    open_kms();
    real.keyd.text = (struct strbuf)STRBUF_INIT(KEYD_TEXT_MAX);
    must(ops_allow_parse("MINT,UNWRAP,WRAP_FOR,DESTROY,UNWRAP_CLIENT,SERVER_KEY", real.keyd.allowed,
                         &err) == 0);
    real.rights.peers = (struct peers){ .items = { { getuid(), getgid() } }, .n = 1 };
    memset(real.rights.may[0], true, sizeof(real.rights.may[0]));
    (void)snprintf(real.path, sizeof(real.path), "%s/keyd.sock", real.dir.path);
    must(listener_open(real.path, SOCK_SEQPACKET, LISTEN_OWN_GROUP, &real.listener, &err) == 0);
    must(pthread_create(&thread, NULL, serve, NULL) == 0 && pthread_detach(thread) == 0);
}

static int dial(void)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    must(fd >= 0 && str_copy(to.sun_path, sizeof(to.sun_path), real.path) == 0);
    must(connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0);
    return fd;
}

static void fill(int fd)
{
    static const char zeros[4096];

    must(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    while (write(fd, zeros, sizeof(zeros)) > 0)
        ;
}

/* Which descriptors go along; the pipe's ends are in `ends`, -1 when closed already. */
static size_t choose(unsigned kind, int ends[2], int file, int ret[DESCRIPTORS_MAX])
{
    ret[0] = kind == SEND_FILE ? file : kind == SEND_READ_END ? ends[0] : ends[1];
    ret[1] = file;
    if (kind == SEND_FULL)
        fill(ends[1]);
    if (kind == SEND_CLOSED) {
        (void)close(ends[0]);
        ends[0] = -1;
    }
    return kind == SEND_NONE ? 0 : kind == SEND_TWO ? 2 : 1;
}

static void send_packet(int fd, const uint8_t *data, size_t size, const int *fds, size_t n)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * DESCRIPTORS_MAX)] = { 0 };
    union {
        const uint8_t *in;
        void *out; /* sendmsg only reads it */
    } u = { .in = data };
    struct iovec part = { .iov_base = u.out, .iov_len = size };
    struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1 };

    if (n > 0) {
        m.msg_control = control;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * n);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
    }
    must(sendmsg(fd, &m, MSG_NOSIGNAL) >= 0);
}

/* True: OK in answer to UNWRAP. */
static bool take_reply(int fd)
{
    static struct wire_frame in;
    struct wire_reply reply;
    struct error err = ERROR_INIT;
    ssize_t n = recv(fd, in.bytes, sizeof(in.bytes), 0);

    if (n <= 0) /* it hung up */
        return false;
    must(wire_reply_decode(in.bytes, (size_t)n, &reply, &err) == 0);
    if (strcmp(reply.code, WIRE_OK) != 0) {
        must(reply.message[0] != '\0' && is_plain(reply.message, strlen(reply.message)));
        return false;
    }
    must(strncmp(reply.ciphertext, "file:v1:", 8) == 0 || reply.op != WIRE_MINT);
    return reply.op == WIRE_UNWRAP;
}

static void check_pipe(int fd, bool key_expected)
{
    struct key_frame f;

    must(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    ssize_t n = read(fd, &f, sizeof(f));
    must((n == (ssize_t)sizeof(f)) == key_expected);
    must(!key_expected || (f.magic == KEY_FRAME_MAGIC && f.status == KEY_FRAME_OK));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int ends[2], fds[DESCRIPTORS_MAX] = { -1, -1, -1 };

    if (size < 2 || size > 2 * WIRE_FRAME_MAX)
        return 0;
    start();
    unsigned kind = data[0] % SEND_KINDS;
    AUTO_CLOSE int fd = dial(), file = open("/dev/null", O_WRONLY | O_CLOEXEC);
    must(file >= 0 && pipe2(ends, O_CLOEXEC) == 0);
    size_t n = choose(kind, ends, file, fds);
    send_packet(fd, data + 1, size - 1, fds, n);
    bool unwrapped = take_reply(fd);
    must(!unwrapped || kind == SEND_PIPE);
    if (kind == SEND_PIPE || kind == SEND_TWO)
        check_pipe(ends[0], unwrapped);
    cleanup_close(&ends[0]);
    cleanup_close(&ends[1]);
    return 0;
}

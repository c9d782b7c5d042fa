/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/server.h"

#include "common/deadline.h"
#include "common/log.h"
#include "keyd/recv.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define TAG_LISTENER (SERVER_CONNECTIONS + 0u)
#define TAG_SIGNALS  (SERVER_CONNECTIONS + 1u)
#define PAUSE_MS     1000u /* how long a listener that can't accept is left alone */

struct connection {
    int fd; /* -1: a free slot */
    uid_t uid;
    uint64_t idle_at; /* dropped when nothing was heard until then */
};

struct server {
    struct server_options o;
    int epoll_fd, signal_fd;
    bool stopping;
    uint64_t paused_until; /* the listener isn't polled; 0 = it is */
    struct connection connections[SERVER_CONNECTIONS];
    struct received in; /* the frame at hand; here because it is too big for the stack */
    struct wire_frame out;
};

static int watch(struct server *s, int fd, uint32_t tag)
{
    struct epoll_event e = { .events = EPOLLIN, .data.u32 = tag };
    return epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &e);
}

/* Full, or out of descriptors: who connects now waits in the socket's queue. */
static void pause_listener(struct server *s)
{
    if (s->paused_until == 0)
        (void)epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, s->o.listener->fd, NULL);
    s->paused_until = deadline_in(PAUSE_MS);
}

static void resume_listener(struct server *s)
{
    if (s->paused_until == 0 || s->o.keyd->connections >= SERVER_CONNECTIONS)
        return;
    if (watch(s, s->o.listener->fd, TAG_LISTENER) == 0)
        s->paused_until = 0;
}

static void drop(struct server *s, struct connection *c)
{
    (void)close(c->fd);
    c->fd = -1;
    s->o.keyd->connections--;
    resume_listener(s);
}

static void drop_broken(struct server *s, struct connection *c, const struct error *err)
{
    s->o.keyd->counters.broken++;
    log_warn("connection ended", KV("peer_uid", c->uid), KV("reason", err->msg));
    drop(s, c);
}

/* A reply that doesn't go out at once: the peer doesn't read, or is gone. */
static int send_reply(struct server *s, int fd, const struct wire_reply *reply, struct error *err)
{
    if (wire_reply_encode(reply, &s->out, err) < 0)
        return -1;
    ssize_t n = send(fd, s->out.bytes, s->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n == (ssize_t)s->out.len ? 0 : error_errno(err, errno, "send a reply");
}

static void refuse(struct server *s, int fd, const struct error *why)
{
    struct error ignored = ERROR_INIT;
    struct wire_reply reply;
    ops_error_reply(WIRE_NONE, why, &reply);
    (void)!send_reply(s, fd, &reply, &ignored);
}

/* ---- one request ---- */

static int check_version(struct server *s, const struct connection *c, const struct wire_header *h,
                         struct error *err)
{
    if (h->version == WIRE_VERSION)
        return 0;
    (void)error_set(err, ERR_UNAVAILABLE,
                    "this coffer-keyd speaks wire version %u, the caller version %u", WIRE_VERSION,
                    h->version);
    refuse(s, c->fd, err);
    return -1;
}

static int check_descriptors(const struct wire_message *m, size_t n, struct error *err)
{
    size_t want = wire_message_descriptors(m);
    if (n != want)
        return error_set(err, ERR_INVALID, "frame: %s with %zu descriptors, not %zu",
                         wire_message_name(m), n, want);
    return 0;
}

/* -1: the connection must end. */
static int answer(struct server *s, struct connection *c, struct error *err)
{
    struct wire_header header;
    struct wire_request request;
    struct wire_reply reply;
    const struct received *in = &s->in;
    if (wire_header_decode(in->frame.bytes, in->frame.len, &header, err) < 0 ||
        check_version(s, c, &header, err) < 0)
        return -1;
    const struct wire_message *m = wire_message_find(header.op);
    if (m == NULL)
        return error_set(err, ERR_INVALID, "frame: unknown op %u", header.op);
    if (check_descriptors(m, in->n_fds, err) < 0 ||
        wire_request_decode(in->frame.bytes, in->frame.len, &request, err) < 0)
        return -1;
    ops_handle(s->o.keyd, &request, in->n_fds == 1 ? in->fds[0] : -1, c->uid, &reply);
    return send_reply(s, c->fd, &reply, err);
}

static void serve(struct server *s, struct connection *c)
{
    struct error err = ERROR_INIT;
    if (c->fd < 0)
        return;
    enum recv_result result = receive_frame(c->fd, &s->in, &err);
    int r = result == RECV_FRAME ? answer(s, c, &err) : 0;
    received_release(&s->in);
    if (result == RECV_CLOSED)
        drop(s, c);
    else if (result == RECV_BROKEN || r < 0)
        drop_broken(s, c, &err);
    else
        c->idle_at = deadline_in(s->o.idle_ms);
}

/* ---- connections ---- */

static struct connection *free_slot(struct server *s)
{
    for (size_t i = 0; i < SERVER_CONNECTIONS; i++) {
        if (s->connections[i].fd < 0)
            return &s->connections[i];
    }
    return NULL;
}

static int check_peer(struct server *s, int fd, struct ucred *ret)
{
    struct error err = ERROR_INIT;
    socklen_t len = sizeof(*ret);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret, &len) < 0 || len != sizeof(*ret))
        return -1;
    if (peers_allow(s->o.peers, ret->uid, ret->gid))
        return 0;
    s->o.keyd->counters.refused_peers++;
    log_warn("peer refused", KV("peer_uid", ret->uid), KV("peer_gid", ret->gid));
    (void)error_set(&err, ERR_PERMISSION, "uid %u gid %u may not use this coffer-keyd", ret->uid,
                    ret->gid);
    refuse(s, fd, &err);
    return -1;
}

static void accept_one(struct server *s)
{
    struct ucred peer;
    AUTO_CLOSE int fd = accept4(s->o.listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
            pause_listener(s);
        return;
    }
    struct connection *c = free_slot(s);
    if (check_peer(s, fd, &peer) < 0 || c == NULL)
        return;
    if (watch(s, fd, (uint32_t)(c - s->connections)) < 0)
        return;
    *c = (struct connection){ .fd = TAKE_FD(fd),
                              .uid = peer.uid,
                              .idle_at = deadline_in(s->o.idle_ms) };
    s->o.keyd->counters.accepted++;
    if (++s->o.keyd->connections >= SERVER_CONNECTIONS)
        pause_listener(s);
}

/* Drops who was silent too long; *next = when to look again. */
static void sweep(struct server *s, uint64_t *next)
{
    uint64_t now = clock_ms();
    *next = DEADLINE_NEVER;
    for (size_t i = 0; i < SERVER_CONNECTIONS; i++) {
        struct connection *c = &s->connections[i];
        if (c->fd >= 0 && c->idle_at <= now) {
            s->o.keyd->counters.idle_closed++;
            log_debug("idle connection dropped", KV("peer_uid", c->uid));
            drop(s, c);
        }
        if (c->fd >= 0 && c->idle_at < *next)
            *next = c->idle_at;
    }
    if (s->paused_until != 0 && s->paused_until <= now) {
        s->paused_until = deadline_in(PAUSE_MS);
        resume_listener(s);
    }
    if (s->paused_until != 0 && s->paused_until < *next)
        *next = s->paused_until;
}

/* ---- signals and the loop ---- */

static void log_counters(const struct keyd *k)
{
    AUTO_STRBUF struct strbuf requests = STRBUF_INIT(4096);
    const struct counters *c = &k->counters;
    counters_to_text(c, &requests);
    log_info("counters", KV("requests", strbuf_text(&requests)), KV("connections", k->connections),
             KV("accepted", c->accepted), KV("refused_peers", c->refused_peers),
             KV("broken", c->broken), KV("idle_closed", c->idle_closed),
             KV("insecure", kms_set_insecure(k->kms)));
}

static void on_signal(struct server *s)
{
    struct signalfd_siginfo info;
    if (read(s->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    if (info.ssi_signo == SIGUSR1)
        log_counters(s->o.keyd);
    else
        s->stopping = true;
}

static void on_event(struct server *s, uint32_t tag)
{
    if (tag == TAG_LISTENER)
        accept_one(s);
    else if (tag == TAG_SIGNALS)
        on_signal(s);
    else
        serve(s, &s->connections[tag]);
}

int server_run(struct server *s, struct error *err)
{
    struct epoll_event events[64];
    while (!s->stopping) {
        uint64_t next;
        sweep(s, &next);
        int n = epoll_wait(s->epoll_fd, events, ARRAY_SIZE(events), deadline_poll_timeout(next));
        if (n < 0 && errno != EINTR)
            return error_errno(err, errno, "wait for events");
        for (int i = 0; i < n; i++)
            on_event(s, events[i].data.u32);
    }
    return 0;
}

static int take_signals(struct server *s, struct error *err)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGUSR1);
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return error_errno(err, errno, "block signals");
    s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->signal_fd < 0)
        return error_errno(err, errno, "make a signalfd");
    return 0;
}

int server_new(const struct server_options *o, struct server **ret, struct error *err)
{
    AUTO_SERVER struct server *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return error_set(err, ERR_EXHAUSTED, "out of memory");
    s->o = *o;
    s->epoll_fd = s->signal_fd = -1;
    for (size_t i = 0; i < SERVER_CONNECTIONS; i++)
        s->connections[i].fd = -1;
    if (take_signals(s, err) < 0)
        return -1;
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (s->epoll_fd < 0 || watch(s, s->signal_fd, TAG_SIGNALS) < 0 ||
        watch(s, o->listener->fd, TAG_LISTENER) < 0)
        return error_errno(err, errno, "make an epoll");
    *ret = TAKE_PTR(s);
    return 0;
}

void server_free(struct server *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < SERVER_CONNECTIONS; i++) {
        if (s->connections[i].fd >= 0)
            drop(s, &s->connections[i]);
    }
    if (s->epoll_fd >= 0)
        (void)close(s->epoll_fd);
    if (s->signal_fd >= 0)
        (void)close(s->signal_fd);
    free(s);
}

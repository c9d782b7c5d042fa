/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/server.h"

#include "common/deadline.h"
#include "common/log.h"
#include "keyd/recv.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_ONCE  (EPOLLIN | EPOLLONESHOT)
#define PAUSE_MS   1000u /* how long a listener that can't accept is left alone */
#define TRIM_AFTER 16u   /* connections at once whose memory is worth giving back */

struct connection {
    struct server *server;
    struct event_watch watch; /* one shot: after a frame it isn't read until it is armed again */
    int fd;                   /* -1: a free slot */
    uid_t uid;
    bool may[WIRE_OP_LIMIT];
    struct event_timer idle; /* dropped when nothing was heard until then */
    struct pending *pending; /* the request that is being answered; NULL: none */
};

/* A request with all that its answer needs. */
struct pending {
    struct keyd_request request;
    struct connection *connection; /* NULL: gone, nobody wants the answer */
    int descriptor;
    size_t frame_len;
    unsigned char frame[]; /* `request` has views into it */
};

struct server {
    struct server_options o;
    struct event_watch listener, signals;
    struct event_timer pause; /* on: the listener isn't polled until then */
    int signal_fd;
    size_t most; /* connections at once since none was there */
    struct connection connections[SERVER_CONNECTIONS];
    struct received in; /* the frame at hand; here because it is too big for the stack */
    struct wire_frame out;
};

static void on_listener(void *ctx, uint32_t events);
static void on_connection(void *ctx, uint32_t events);

static int listen_on(struct server *s)
{
    struct error ignored = ERROR_INIT;
    return event_watch(s->o.loop, &s->listener, s->o.listener->fd, EPOLLIN, &ignored);
}

/* Full, or out of descriptors: who connects now waits in the socket's queue. */
static void pause_listener(struct server *s)
{
    event_unwatch(s->o.loop, &s->listener);
    event_timer_set(s->o.loop, &s->pause, deadline_in(PAUSE_MS));
}

static void resume_listener(struct server *s)
{
    if (s->listener.fd >= 0 || s->o.keyd->connections >= SERVER_CONNECTIONS)
        return;
    if (listen_on(s) == 0)
        event_timer_stop(s->o.loop, &s->pause);
}

static void on_pause_over(void *ctx)
{
    struct server *s = ctx;
    event_timer_set(s->o.loop, &s->pause, deadline_in(PAUSE_MS));
    resume_listener(s);
}

/* What many requests at once needed stays in the heap otherwise: 8 MiB after 256 of them. */
static void tidy(struct server *s)
{
    if (s->most >= TRIM_AFTER)
        (void)malloc_trim(0);
    s->most = 0;
}

static void drop(struct connection *c)
{
    struct server *s = c->server;
    event_unwatch(s->o.loop, &c->watch);
    event_timer_stop(s->o.loop, &c->idle);
    if (c->pending != NULL)
        c->pending->connection = NULL;
    c->pending = NULL;
    (void)close(c->fd);
    c->fd = -1;
    if (--s->o.keyd->connections == 0)
        tidy(s);
    resume_listener(s);
}

static void drop_broken(struct connection *c, const struct error *err)
{
    c->server->o.keyd->counters.broken++;
    log_warn("connection ended", KV("peer_uid", c->uid), KV("reason", err->msg));
    drop(c);
}

/* Reads the next frame, and gives the peer time for it. While a request is being answered nothing
 * is read, and a peer that went away isn't reported over and over. */
static int arm(struct connection *c, struct error *err)
{
    const struct server_options *o = &c->server->o;
    if (event_watch_change(o->loop, &c->watch, READ_ONCE, err) < 0)
        return -1;
    event_timer_set(o->loop, &c->idle, deadline_in(o->idle_ms));
    return 0;
}

static void on_idle(void *ctx)
{
    struct connection *c = ctx;
    c->server->o.keyd->counters.idle_closed++;
    log_debug("idle connection dropped", KV("peer_uid", c->uid));
    drop(c);
}

/* A reply that doesn't go out at once: the peer doesn't read, or is gone. */
static int send_reply(struct server *s, int fd, const struct wire_reply *reply, struct error *err)
{
    if (wire_reply_encode(reply, &s->out, err) < 0)
        return -1;
    ssize_t n = send(fd, s->out.bytes, s->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n == (ssize_t)s->out.len ? 0 : error_errno(err, errno, "send a reply");
}

static void refuse(struct server *s, int fd, uint16_t op, const struct error *why)
{
    struct error ignored = ERROR_INIT;
    struct wire_reply reply;
    ops_error_reply(op, why, &reply);
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
    refuse(s, c->fd, WIRE_NONE, err);
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

/* ---- its answer ---- */

static void pending_free(struct pending *p)
{
    if (p->descriptor >= 0)
        (void)close(p->descriptor);
    explicit_bzero(p, sizeof(*p) + p->frame_len);
    free(p);
}

static void on_answered(struct keyd_request *request)
{
    struct pending *p = request->ctx;
    struct connection *c = p->connection;
    struct error err = ERROR_INIT;
    if (c != NULL) {
        struct server *s = c->server;
        c->pending = NULL;
        if (send_reply(s, c->fd, &request->reply, &err) < 0 || arm(c, &err) < 0)
            drop_broken(c, &err);
    }
    pending_free(p);
}

/* Takes the frame and the descriptor out of s->in. */
static struct pending *pending_new(struct connection *c, uint16_t op)
{
    struct received *in = &c->server->in;
    struct pending *p = calloc(1, sizeof(*p) + in->frame.len);
    if (p == NULL)
        return NULL;
    p->connection = c;
    p->frame_len = in->frame.len;
    memcpy(p->frame, in->frame.bytes, in->frame.len);
    p->descriptor = in->n_fds == 1 ? TAKE_FD(in->fds[0]) : -1;
    p->request.keyd = c->server->o.keyd;
    p->request.descriptor = p->descriptor;
    p->request.peer = c->uid;
    p->request.peer_may = c->may[op];
    p->request.done = on_answered;
    p->request.ctx = p;
    return p;
}

/* -1: the connection must end. */
static int start(struct connection *c, struct error *err)
{
    struct server *s = c->server;
    const struct received *in = &s->in;
    struct wire_header header;
    if (wire_header_decode(in->frame.bytes, in->frame.len, &header, err) < 0 ||
        check_version(s, c, &header, err) < 0)
        return -1;
    const struct wire_message *m = wire_message_find(header.op);
    if (m == NULL)
        return error_set(err, ERR_INVALID, "frame: unknown op %u", header.op);
    if (check_descriptors(m, in->n_fds, err) < 0)
        return -1;
    struct pending *p = pending_new(c, header.op);
    if (p == NULL) {
        (void)error_memory(err);
        refuse(s, c->fd, header.op, err);
        return -1;
    }
    if (wire_request_decode(p->frame, p->frame_len, &p->request.wire, err) < 0) {
        pending_free(p);
        return -1;
    }
    event_timer_stop(s->o.loop, &c->idle);
    c->pending = p;
    ops_start(&p->request);
    return 0;
}

static void on_connection(void *ctx, uint32_t events UNUSED)
{
    struct connection *c = ctx;
    struct received *in = &c->server->in;
    struct error err = ERROR_INIT;
    enum recv_result result = receive_frame(c->fd, in, &err);
    int r = result == RECV_FRAME ? start(c, &err) : 0;
    received_release(in);
    if (result == RECV_CLOSED)
        drop(c);
    else if (result == RECV_BROKEN || r < 0)
        drop_broken(c, &err);
    else if (result == RECV_NOTHING && arm(c, &err) < 0)
        drop_broken(c, &err);
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

static int check_peer(struct server *s, int fd, struct ucred *ret, bool ret_may[WIRE_OP_LIMIT])
{
    struct error err = ERROR_INIT;
    socklen_t len = sizeof(*ret);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret, &len) < 0 || len != sizeof(*ret))
        return -1;
    if (rights_of(s->o.rights, ret->uid, ret->gid, ret_may))
        return 0;
    s->o.keyd->counters.refused_peers++;
    log_warn("peer refused", KV("peer_uid", ret->uid), KV("peer_gid", ret->gid));
    (void)error_set(&err, ERR_PERMISSION, "uid %u gid %u may not use this coffer-keyd", ret->uid,
                    ret->gid);
    refuse(s, fd, WIRE_NONE, &err);
    return -1;
}

static void on_listener(void *ctx, uint32_t events UNUSED)
{
    struct server *s = ctx;
    struct error err = ERROR_INIT;
    struct ucred peer;
    bool may[WIRE_OP_LIMIT];
    AUTO_CLOSE int fd = accept4(s->o.listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
            pause_listener(s);
        return;
    }
    struct connection *c = free_slot(s);
    if (check_peer(s, fd, &peer, may) < 0 || c == NULL)
        return;
    if (event_watch(s->o.loop, &c->watch, fd, READ_ONCE, &err) < 0)
        return;
    c->fd = TAKE_FD(fd);
    c->uid = peer.uid;
    memcpy(c->may, may, sizeof(may));
    event_timer_set(s->o.loop, &c->idle, deadline_in(s->o.idle_ms));
    s->o.keyd->counters.accepted++;
    if (++s->o.keyd->connections > s->most)
        s->most = s->o.keyd->connections;
    if (s->o.keyd->connections >= SERVER_CONNECTIONS)
        pause_listener(s);
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

static void on_signal(void *ctx, uint32_t events UNUSED)
{
    struct server *s = ctx;
    struct signalfd_siginfo info;
    if (read(s->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    if (info.ssi_signo == SIGUSR1)
        log_counters(s->o.keyd);
    else
        event_loop_stop(s->o.loop);
}

int server_run(struct server *s, struct error *err)
{
    return event_loop_run(s->o.loop, err);
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
    return event_watch(s->o.loop, &s->signals, s->signal_fd, EPOLLIN, err);
}

static void set_callbacks(struct server *s)
{
    s->signal_fd = -1;
    s->listener = (struct event_watch){ .fd = -1, .ready = on_listener, .ctx = s };
    s->signals = (struct event_watch){ .fd = -1, .ready = on_signal, .ctx = s };
    s->pause = (struct event_timer){ .fire = on_pause_over, .ctx = s };
    for (size_t i = 0; i < SERVER_CONNECTIONS; i++) {
        struct connection *c = &s->connections[i];
        *c = (struct connection){ .server = s, .fd = -1 };
        c->watch = (struct event_watch){ .fd = -1, .ready = on_connection, .ctx = c };
        c->idle = (struct event_timer){ .fire = on_idle, .ctx = c };
    }
}

int server_new(const struct server_options *o, struct server **ret, struct error *err)
{
    AUTO_SERVER struct server *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return error_memory(err);
    s->o = *o;
    set_callbacks(s);
    if (take_signals(s, err) < 0)
        return -1;
    if (listen_on(s) < 0)
        return error_set(err, ERR_INTERNAL, "the socket can't be watched");
    *ret = TAKE_PTR(s);
    return 0;
}

void server_free(struct server *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < SERVER_CONNECTIONS; i++) {
        if (s->connections[i].fd >= 0)
            drop(&s->connections[i]);
    }
    event_unwatch(s->o.loop, &s->listener);
    event_timer_stop(s->o.loop, &s->pause);
    event_unwatch(s->o.loop, &s->signals);
    if (s->signal_fd >= 0)
        (void)close(s->signal_fd);
    free(s);
}

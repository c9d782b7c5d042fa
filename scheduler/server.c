/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/server.h"

#include "common/deadline.h"
#include "common/fs.h"
#include "common/httpd.h"
#include "common/log.h"
#include "common/parse.h"
#include "common/thread.h"
#include "common/wipe.h"
#include "scheduler/connections.h"
#include "scheduler/listeners.h"

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>

#define CONNECTION_MEMORY ((size_t)40 << 10) /* over 32 KiB it is a mapping, wiped by its end */
#define RECEIVED_MAX      MIB(1)
#define PEM_MAX           KIB(256)
#define TICK_MS           250u
#define CIPHERS           "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct server {
    struct scheduler *s;
    enum api_door door;
    struct MHD_Daemon *daemon;
    struct connections connections;
};

static struct server servers[3]; /* for the rest of the process's life */
static size_t n_servers;

/* One request, from its first line to the end of its answer. */
struct exchange {
    struct server *server;
    struct MHD_Connection *connection;
    struct connection *peer;
    char target[TARGET_MAX + 2]; /* one more: it is then too long */
    char name[DEVICE_NAME_LEN + 1];
    struct wipe_buffer body;
    size_t received; /* of the body, kept or not */
    bool began, suspended;
    bool ended; /* the operation, before the request was suspended; under waiting_lock */
    struct reply reply;
    struct waiter waiter;
    uint64_t deadline;
    struct exchange *next; /* of those that wait */
};

static pthread_mutex_t waiting_lock = PTHREAD_MUTEX_INITIALIZER;
static struct exchange *waiting;

/* ---- answers ---- */

static void add_headers(struct MHD_Response *response, const struct reply *r)
{
    char seconds[16];

    (void)MHD_add_response_header(response, "Content-Type", r->type);
    (void)MHD_add_response_header(response, "Cache-Control", "no-store");
    (void)MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (r->location[0] != '\0')
        (void)MHD_add_response_header(response, "Location", r->location);
    if (r->allow[0] != '\0')
        (void)MHD_add_response_header(response, "Allow", r->allow);
    if (r->status == 401)
        (void)MHD_add_response_header(response, "WWW-Authenticate", "Coffer-Proof");
    if (r->retry_after == 0)
        return;
    (void)snprintf(seconds, sizeof(seconds), "%u", r->retry_after);
    (void)MHD_add_response_header(response, "Retry-After", seconds);
}

static enum MHD_Result send_reply(struct exchange *x)
{
    struct reply *r = &x->reply;
    struct MHD_Response *response = MHD_create_response_from_buffer(
        r->len, r->body, r->is_constant ? MHD_RESPMEM_PERSISTENT : MHD_RESPMEM_MUST_FREE);
    enum MHD_Result result;

    if (response == NULL)
        return MHD_NO;
    r->is_constant = true; /* it is the response's now */
    add_headers(response, r);
    result = MHD_queue_response(x->connection, r->status, response);
    MHD_destroy_response(response);
    atomic_fetch_add(&x->server->s->counters.requests[r->status / 100], 1);
    return result;
}

/* ---- requests that wait for an operation ---- */

static bool forget_waiting(struct exchange *x)
{
    for (struct exchange **at = &waiting; *at != NULL; at = &(*at)->next) {
        if (*at != x)
            continue;
        *at = x->next;
        return true;
    }
    return false;
}

/* The operation ended: the scheduler's lock is held, so the list of devices is made later. */
static void operation_ended(struct waiter *w, const struct error *err)
{
    struct exchange *x = (struct exchange *)((char *)w - offsetof(struct exchange, waiter));

    if (err != NULL)
        reply_error(&x->reply, err);
    (void)pthread_mutex_lock(&waiting_lock);
    if (forget_waiting(x))
        MHD_resume_connection(x->connection);
    else
        x->ended = true;
    (void)pthread_mutex_unlock(&waiting_lock);
}

/* Takes the waiter from its operation, unless that has ended; the caller holds the scheduler's
 * lock.
 */
static bool leave_operation(struct waiter *w)
{
    if (w->op == NULL)
        return false;
    for (struct waiter **at = &w->op->waiters; *at != NULL; at = &(*at)->next) {
        if (*at != w)
            continue;
        *at = w->next;
        break;
    }
    w->op = NULL;
    return true;
}

static struct exchange *first_overdue(void)
{
    for (struct exchange *x = waiting; x != NULL; x = x->next) {
        if (deadline_left(x->deadline) == 0)
            return x;
    }
    return NULL;
}

/* The scheduler's lock comes before waiting_lock. */
static void end_overdue(struct scheduler *s)
{
    struct exchange *x;

    scheduler_lock(s);
    (void)pthread_mutex_lock(&waiting_lock);
    while ((x = first_overdue()) != NULL) {
        (void)forget_waiting(x);
        if (leave_operation(&x->waiter))
            reply_refuse(&x->reply, 504, "it takes longer than %llu s; it goes on, so ask again",
                         (unsigned long long)(s->request_ms / 1000));
        MHD_resume_connection(x->connection);
    }
    (void)pthread_mutex_unlock(&waiting_lock);
    scheduler_unlock(s);
}

static void tick(void *ctx)
{
    struct scheduler *s = ctx;

    end_overdue(s);
    for (size_t i = 0; i < n_servers; i++) {
        size_t n = connections_cut(&servers[i].connections, s->request_ms,
                                   SERVER_CONNECTIONS - SERVER_CONNECTIONS / 10);

        atomic_fetch_add(&s->counters.cut, n);
    }
}

/* ---- libmicrohttpd's callbacks ---- */

static void *begin_request(void *cls, const char *uri, struct MHD_Connection *connection)
{
    struct exchange *x = calloc(1, sizeof(*x));
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    if (x == NULL)
        return NULL; /* the connection is then closed */
    x->server = cls;
    x->connection = connection;
    x->peer = info != NULL ? info->socket_context : NULL;
    x->waiter.done = operation_ended;
    (void)snprintf(x->target, sizeof(x->target), "%s", uri);
    api_device_of(x->target, x->name);
    return x;
}

static void end_request(void *cls UNUSED, struct MHD_Connection *connection UNUSED, void **con_cls,
                        enum MHD_RequestTerminationCode code UNUSED)
{
    struct exchange *x = *con_cls;

    if (x == NULL)
        return;
    if (x->peer != NULL)
        connections_renew(&x->server->connections, x->peer);
    reply_clear(&x->reply);
    wipe_buffer_release(&x->body);
    free(x);
    *con_cls = NULL;
}

static void notify_connection(void *cls, struct MHD_Connection *connection, void **socket_context,
                              enum MHD_ConnectionNotificationCode code)
{
    struct server *server = cls;
    const union MHD_ConnectionInfo *info;
    struct connection *c = *socket_context;

    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (c != NULL) {
            connections_remove(&server->connections, c);
            atomic_fetch_sub(&server->s->counters.connections, 1);
        }
        free(c);
        *socket_context = NULL;
        return;
    }
    info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    c = info != NULL ? calloc(1, sizeof(*c)) : NULL;
    if (c == NULL)
        return; /* libmicrohttpd's own time-out ends it */
    connections_add(&server->connections, c, info->connect_fd);
    atomic_fetch_add(&server->s->counters.connections, 1);
    *socket_context = c;
}

static const char *header(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

/* A body that says itself that it is too long isn't waited for. */
static bool announces_too_much(struct MHD_Connection *connection)
{
    const char *length = header(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);
    uint64_t n = 0;

    return length != NULL && (parse_u64(length, &n) < 0 || n > BODY_MAX);
}

static enum MHD_Result finish_waiting(struct exchange *x)
{
    if (x->reply.status == 0)
        api_end(x->server->s, x->name, NULL, &x->reply);
    return send_reply(x);
}

/* The operation may have ended already, or end at any time. */
static enum MHD_Result wait_for_end(struct exchange *x)
{
    bool ended;

    x->deadline = deadline_in(x->server->s->request_ms);
    (void)pthread_mutex_lock(&waiting_lock);
    ended = x->ended;
    if (!ended) {
        x->suspended = true;
        x->next = waiting;
        waiting = x;
        MHD_suspend_connection(x->connection);
    }
    (void)pthread_mutex_unlock(&waiting_lock);
    return ended ? finish_waiting(x) : MHD_YES;
}

static enum MHD_Result answer(struct exchange *x, const char *method)
{
    struct scheduler *s = x->server->s;
    const struct api_request q = { .door = x->server->door,
                                   .method = method,
                                   .target = x->target,
                                   .content_type =
                                       header(x->connection, MHD_HTTP_HEADER_CONTENT_TYPE),
                                   .proof = header(x->connection, "Coffer-Proof"),
                                   .body = { .data = x->body.bytes, .len = x->body.len } };

    if (x->peer != NULL)
        connections_wait(&x->server->connections, x->peer);
    return api_handle(s, &q, &x->reply, &x->waiter) ? send_reply(x) : wait_for_end(x);
}

/* One byte more than may be is kept, so that api.h sees it; what follows is read and forgotten, as
 * no answer goes out before the end of a body. */
static enum MHD_Result take_body(struct exchange *x, const char *data, size_t *size)
{
    size_t room = BODY_MAX + 1 - x->body.len, n = *size < room ? *size : room;

    x->received += *size;
    *size = 0;
    if (x->received > RECEIVED_MAX)
        return MHD_NO;
    if (n > 0 && wipe_buffer_add(&x->body, data, n, BODY_MAX + 1) < 0)
        return MHD_NO;
    return MHD_YES;
}

static enum MHD_Result handle(void *cls UNUSED, struct MHD_Connection *connection UNUSED,
                              const char *url UNUSED, const char *method,
                              const char *version UNUSED, const char *data, size_t *size,
                              void **con_cls)
{
    struct exchange *x = *con_cls;

    if (x == NULL)
        return MHD_NO;
    if (!x->began) {
        x->began = true;
        if (!announces_too_much(connection))
            return MHD_YES;
        reply_refuse(&x->reply, 413, "the request's body is longer than %u bytes",
                     (unsigned)BODY_MAX);
        return send_reply(x);
    }
    if (x->suspended)
        return finish_waiting(x);
    if (*size == 0)
        return answer(x, method);
    return take_body(x, data, size);
}

static void log_line(void *cls UNUSED, const char *format, va_list args)
{
    char text[256];

    if (!log_enabled(LOG_LEVEL_DEBUG))
        return;
    (void)vsnprintf(text, sizeof(text), format, args);
    log_debug("libmicrohttpd", KV("text", (const char *)text));
}

/* ---- listeners ---- */

/* A PEM file in memory that is wiped: GnuTLS makes a copy of its own. */
static int read_pem(const char *path, struct wipe_buffer *to, struct error *err)
{
    char chunk[4096];
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return error_errno(err, errno, "open '%s'", path);
    while ((n = read(fd, chunk, sizeof(chunk))) > 0) {
        if (wipe_buffer_add(to, chunk, (size_t)n, PEM_MAX) < 0)
            return error_set(err, ERR_INVALID, "'%s' is too long for a PEM file", path);
    }
    explicit_bzero(chunk, sizeof(chunk));
    if (n < 0)
        return error_errno(err, errno, "read '%s'", path);
    return to->len > 0 ? 0 : error_set(err, ERR_INVALID, "'%s' is empty", path);
}

/* libmicrohttpd only reads them. */
static void *unconst(const char *text)
{
    union {
        const char *in;
        void *out;
    } u = { .in = text };

    return u.out;
}

static int start_daemon(struct scheduler *s, enum api_door door, int fd, const char *certificate,
                        const char *key, struct error *err)
{
    struct server *server = &servers[n_servers];
    const unsigned int flags =
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | (key != NULL ? MHD_USE_TLS : 0U);
    struct MHD_OptionItem tls[] = {
        { MHD_OPTION_HTTPS_MEM_KEY, 0, unconst(key) },
        { MHD_OPTION_HTTPS_MEM_CERT, 0, unconst(certificate) },
        { MHD_OPTION_HTTPS_PRIORITIES, 0, unconst(CIPHERS) },
        { MHD_OPTION_END, 0, NULL },
    };
    const struct MHD_OptionItem none = { MHD_OPTION_END, 0, NULL };

    server->s = s;
    server->door = door;
    (void)pthread_mutex_init(&server->connections.lock, NULL);
    server->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, handle, server, MHD_OPTION_EXTERNAL_LOGGER, log_line, NULL,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_URI_LOG_CALLBACK, begin_request, server,
        MHD_OPTION_NOTIFY_COMPLETED, end_request, server, MHD_OPTION_NOTIFY_CONNECTION,
        notify_connection, server, MHD_OPTION_CONNECTION_LIMIT, SERVER_CONNECTIONS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned int)(s->request_ms / 1000), MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY,
        key != NULL ? tls : &none, MHD_OPTION_END);
    if (server->daemon == NULL)
        return error_set(err, ERR_INTERNAL,
                         "the HTTP server doesn't start (see --log-level debug)");
    n_servers++;
    return 0;
}

static int start_tcp(struct scheduler *s, const struct server_options *o, struct error *err)
{
    AUTO_WIPE_BUFFER struct wipe_buffer key = WIPE_BUFFER_INIT;
    AUTO_WIPE_BUFFER struct wipe_buffer certificate = WIPE_BUFFER_INIT;
    AUTO_CLOSE int fd = -1;

    if (o->listen[0] == '\0')
        return 0;
    if (read_pem(o->certificate, &certificate, err) < 0 || read_pem(o->key, &key, err) < 0 ||
        httpd_listen(o->listen, &fd, err) < 0)
        return -1;
    if (start_daemon(s, DOOR_PUBLIC, fd, certificate.bytes, key.bytes, err) < 0)
        return error_prefix(err, "--listen '%s'", o->listen);
    (void)TAKE_FD(fd);
    return 0;
}

static int start_unix(struct scheduler *s, enum api_door door, const char *path, mode_t mode,
                      gid_t group, struct error *err)
{
    AUTO_CLOSE int fd = -1;

    if (path[0] == '\0')
        return 0;
    if (listener_unix(path, mode, group, &fd, err) < 0 ||
        start_daemon(s, door, fd, NULL, NULL, err) < 0)
        return -1;
    (void)TAKE_FD(fd);
    return 0;
}

int server_check(const struct server_options *o, struct error *err)
{
    gid_t group;

    if (o->listen[0] == '\0' && o->listen_unix[0] == '\0')
        return error_set(err, ERR_INVALID, "--listen or --listen-unix is missing");
    if (o->listen[0] != '\0' && (o->certificate[0] == '\0' || o->key[0] == '\0'))
        return error_set(err, ERR_INVALID,
                         "--listen needs --tls-certificate and --tls-key: there is no TCP without "
                         "TLS");
    if (o->listen[0] == '\0' && (o->certificate[0] != '\0' || o->key[0] != '\0'))
        return error_set(err, ERR_INVALID, "--tls-certificate and --tls-key are for --listen");
    if (o->listen[0] != '\0' && httpd_check(o->listen, err) < 0)
        return -1;
    if (o->listen_unix[0] != '\0' && listener_path_check("listen-unix", o->listen_unix, err) < 0)
        return -1;
    if (o->admin_socket[0] != '\0' && listener_path_check("admin-socket", o->admin_socket, err) < 0)
        return -1;
    return listener_group(o->socket_group, &group, err);
}

int server_start(struct scheduler *s, const struct server_options *o, struct error *err)
{
    static struct thread_round round = { .run = tick, .period_ms = TICK_MS };
    gid_t group = (gid_t)-1;
    mode_t mode;

    round.ctx = s;
    if (listener_group(o->socket_group, &group, err) < 0)
        return -1;
    mode = group != (gid_t)-1 ? 0660 : 0600;
    if (start_unix(s, DOOR_ADMIN, o->admin_socket, 0600, (gid_t)-1, err) < 0 ||
        start_unix(s, DOOR_PUBLIC, o->listen_unix, mode, group, err) < 0 ||
        start_tcp(s, o, err) < 0)
        return -1;
    return thread_start_rounds(&round, "slow requests", err);
}

void server_quiesce(void)
{
    for (size_t i = 0; i < n_servers; i++)
        (void)MHD_quiesce_daemon(servers[i].daemon);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/exchange.h"

#include "common/deadline.h"
#include "common/parse.h"
#include "common/wipe.h"

#include <sys/socket.h>

#define RECEIVED_MAX MIB(1)

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
void exchange_end_overdue(struct scheduler *s)
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

/* ---- libmicrohttpd's callbacks ---- */

void *exchange_begin(void *cls, const char *uri, struct MHD_Connection *connection)
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

void exchange_end(void *cls UNUSED, struct MHD_Connection *connection UNUSED, void **con_cls,
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

void exchange_connection(void *cls, struct MHD_Connection *connection, void **socket_context,
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

/* A body that says itself that it is much too long isn't waited for. A client that sends one that
 * is a little too long gets to read the answer: it has sent all first. */
static bool announces_too_much(struct MHD_Connection *connection)
{
    const char *length = header(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);
    uint64_t n = 0;

    return length != NULL && (parse_u64(length, &n) < 0 || n > RECEIVED_MAX);
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

/* The admin socket's mode says so as well. */
static bool is_admin(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct ucred peer;
    socklen_t len = sizeof(peer);

    return info != NULL &&
           getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
           (peer.uid == 0 || peer.uid == geteuid());
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
    if (q.door == DOOR_ADMIN && !is_admin(x->connection)) {
        reply_refuse(&x->reply, 403, "this socket is for root and the scheduler's own user");
        return send_reply(x);
    }
    return api_handle(s, &q, &x->reply, &x->waiter) ? send_reply(x) : wait_for_end(x);
}

/* The library's own buffer, which lives as long as its connection: the body may be a session. The
 * memory is the library's to write, and it has read what it is to read of it. */
static void forget(const char *data, size_t len)
{
    explicit_bzero((void *)(uintptr_t)data, len);
}

/* One byte more than may be is kept, so that api.h sees it; what follows is read and forgotten, as
 * no answer goes out before the end of a body. */
static enum MHD_Result take_body(struct exchange *x, const char *data, size_t *size)
{
    size_t room = BODY_MAX + 1 - x->body.len, len = *size, n = len < room ? len : room;
    bool kept = n == 0 || wipe_buffer_add(&x->body, data, n, BODY_MAX + 1) == 0;

    x->received += len;
    *size = 0;
    forget(data, len);
    return kept && x->received <= RECEIVED_MAX ? MHD_YES : MHD_NO;
}

enum MHD_Result exchange_handle(void *cls UNUSED, struct MHD_Connection *connection UNUSED,
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

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/httpd.h"

#include "common/deadline.h"
#include "common/thread.h"

#include <errno.h>
#include <sys/socket.h>

#define CONNECTION_MS 5000u
#define LINGER_MS     1000u /* for the peer to read the answer and close first */
#define PAUSE_MS      100u  /* no descriptor is left: who connects waits in the socket's queue */

struct connection {
    struct httpd *httpd;
    int fd; /* -1: free */
    struct event_watch watch;
    struct event_timer limit;
    uint64_t number; /* the smallest is the oldest */
    char request[HTTPD_REQUEST_MAX];
    size_t len;
    struct strbuf answer; /* empty until the request is whole */
    size_t sent;
};

struct httpd {
    struct httpd_options o;
    struct event_watch listener;
    struct event_timer pause;
    uint64_t accepted;
    struct connection connections[HTTPD_CONNECTIONS];
};

static const struct {
    int status;
    const char *reason;
} reasons[] = {
    { 200, "OK" },
    { 400, "Bad Request" },
    { 404, "Not Found" },
    { 405, "Method Not Allowed" },
    { 431, "Request Header Fields Too Large" },
    { 500, "Internal Server Error" },
    { 503, "Service Unavailable" },
    { 505, "HTTP Version Not Supported" },
};

static const char *reason_of(int status)
{
    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
        if (reasons[i].status == status)
            return reasons[i].reason;
    }
    return "";
}

static void drop(struct connection *c)
{
    struct httpd *h = c->httpd;

    event_unwatch(h->o.loop, &c->watch);
    event_timer_stop(h->o.loop, &c->limit);
    (void)close(c->fd);
    c->fd = -1;
    strbuf_release(&c->answer);
}

static void on_limit(void *ctx)
{
    drop(ctx);
}

/* ---- the answer ---- */

static const struct httpd_page *find_page(const struct httpd *h, const char *path, size_t len)
{
    for (size_t i = 0; i < h->o.n_pages; i++) {
        const struct httpd_page *p = &h->o.pages[i];

        if (strlen(p->path) == len && memcmp(p->path, path, len) == 0)
            return p;
    }
    return NULL;
}

static int write_page(const struct httpd *h, const struct httpd_page *page, struct strbuf *body)
{
    int status = page->write(h->o.ctx, body);

    if (!body->failed)
        return status;
    strbuf_clear(body);
    return 500;
}

static void write_answer(struct connection *c, int status, const char *path, size_t path_len)
{
    AUTO_STRBUF struct strbuf body = STRBUF_INIT(HTTPD_PAGE_MAX);
    const struct httpd_page *page = NULL;

    if (status == 200) {
        page = find_page(c->httpd, path, path_len);
        status = page != NULL ? write_page(c->httpd, page, &body) : 404;
    }
    if (body.len == 0)
        strbuf_addf(&body, "%s\n", reason_of(status));
    strbuf_addf(&c->answer,
                "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s"
                "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
                "Connection: close\r\n\r\n",
                status, reason_of(status),
                page != NULL && status != 500 ? page->type : "text/plain; charset=utf-8", body.len,
                status == 405 ? "Allow: GET\r\n" : "");
    strbuf_add(&c->answer, strbuf_text(&body), body.len);
}

/* ---- the request ---- */

/* The first line's end, and where the header ends; false: not yet. */
static bool find_end(const char *data, size_t len, size_t *ret_line)
{
    const char *line = memchr(data, '\n', len);

    if (line == NULL)
        return false;
    *ret_line = (size_t)(line - data);
    return memmem(data, len, "\n\r\n", 3) != NULL || memmem(data, len, "\n\n", 2) != NULL;
}

/* allowed: those that may stand there all the same */
static bool has_control(const char *data, size_t len, const char *allowed)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)data[i];
        if (c == 0 || c == 0x7f || (c < 0x20 && strchr(allowed, c) == NULL))
            return true;
    }
    return false;
}

static bool is_version(const char *text, size_t len)
{
    return len == 8 && memcmp(text, "HTTP/", 5) == 0 && text[5] >= '0' && text[5] <= '9' &&
           text[6] == '.' && text[7] >= '0' && text[7] <= '9';
}

static int parse_line(const char *line, size_t len, const char **ret_path, size_t *ret_path_len)
{
    const char *target = memchr(line, ' ', len);
    size_t method_len = target != NULL ? (size_t)(target++ - line) : 0;
    size_t rest = target != NULL ? len - method_len - 1 : 0;
    const char *version = target != NULL ? memchr(target, ' ', rest) : NULL;

    if (method_len == 0 || version == NULL || target[0] != '/')
        return 400;
    size_t target_len = (size_t)(version++ - target);
    if (!is_version(version, rest - target_len - 1))
        return 400;
    if (version[5] != '1')
        return 505;
    if (method_len != 3 || memcmp(line, "GET", 3) != 0)
        return 405;
    const char *query = memchr(target, '?', target_len);
    *ret_path = target;
    *ret_path_len = query != NULL ? (size_t)(query - target) : target_len;
    return 200;
}

int httpd_parse(const char *data, size_t len, const char **ret_path, size_t *ret_path_len)
{
    size_t line = 0;

    if (has_control(data, len, "\r\n\t"))
        return 400;
    if (!find_end(data, len, &line))
        return len >= HTTPD_REQUEST_MAX ? 431 : 0;
    if (line > 0 && data[line - 1] == '\r')
        line--;
    if (has_control(data, line, ""))
        return 400;
    return parse_line(data, line, ret_path, ret_path_len);
}

/* ---- a connection ---- */

/* Everything was sent: the peer closes first, so that no reset takes the answer from it. */
static void linger(struct connection *c)
{
    struct error ignored = ERROR_INIT;

    event_timer_set(c->httpd->o.loop, &c->limit, deadline_in(LINGER_MS));
    if (event_watch_change(c->httpd->o.loop, &c->watch, EPOLLIN, &ignored) < 0)
        drop(c);
}

static void send_some(struct connection *c)
{
    struct error ignored = ERROR_INIT;
    const char *text = strbuf_text(&c->answer);

    while (c->sent < c->answer.len) {
        ssize_t n =
            send(c->fd, text + c->sent, c->answer.len - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            if (event_watch_change(c->httpd->o.loop, &c->watch, EPOLLOUT, &ignored) < 0)
                drop(c);
            return;
        }
        if (n <= 0) {
            drop(c);
            return;
        }
        c->sent += (size_t)n;
    }
    linger(c);
}

static void answer(struct connection *c, int status, const char *path, size_t path_len)
{
    write_answer(c, status, path, path_len);
    if (c->answer.failed)
        drop(c);
    else
        send_some(c);
}

static void take_request(struct connection *c)
{
    const char *path = NULL;
    size_t path_len = 0;
    int status = httpd_parse(c->request, c->len, &path, &path_len);

    if (status != 0)
        answer(c, status, path, path_len);
}

static void on_connection(void *ctx, uint32_t events)
{
    struct connection *c = ctx;
    bool answered = c->answer.len > 0;
    char rest[HTTPD_REQUEST_MAX];

    if (answered && c->sent < c->answer.len) {
        if ((events & (EPOLLHUP | EPOLLERR)) != 0)
            drop(c);
        else
            send_some(c);
        return;
    }
    char *to = answered ? rest : c->request + c->len;
    ssize_t n = read(c->fd, to, answered ? sizeof(rest) : sizeof(c->request) - c->len);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        drop(c);
        return;
    }
    if (answered)
        return;
    c->len += (size_t)n;
    take_request(c);
}

/* ---- the listener ---- */

static struct connection *oldest_or_free(struct httpd *h)
{
    struct connection *oldest = &h->connections[0];

    for (size_t i = 0; i < HTTPD_CONNECTIONS; i++) {
        struct connection *c = &h->connections[i];

        if (c->fd < 0)
            return c;
        if (c->number < oldest->number)
            oldest = c;
    }
    drop(oldest);
    return oldest;
}

static void on_pause_over(void *ctx)
{
    struct httpd *h = ctx;
    struct error ignored = ERROR_INIT;

    if (event_watch(h->o.loop, &h->listener, h->o.listener, EPOLLIN, &ignored) < 0)
        event_timer_set(h->o.loop, &h->pause, deadline_in(PAUSE_MS));
}

static void on_listener(void *ctx, uint32_t events UNUSED)
{
    struct httpd *h = ctx;
    struct error ignored = ERROR_INIT;
    AUTO_CLOSE int fd = accept4(h->o.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            event_unwatch(h->o.loop, &h->listener);
            event_timer_set(h->o.loop, &h->pause, deadline_in(PAUSE_MS));
        }
        return;
    }
    struct connection *c = oldest_or_free(h);
    if (event_watch(h->o.loop, &c->watch, fd, EPOLLIN, &ignored) < 0)
        return;
    c->fd = TAKE_FD(fd);
    c->number = ++h->accepted;
    c->len = c->sent = 0;
    event_timer_set(h->o.loop, &c->limit, deadline_in(CONNECTION_MS));
}

int httpd_new(const struct httpd_options *o, struct httpd **ret, struct error *err)
{
    AUTO_HTTPD struct httpd *h = calloc(1, sizeof(*h));

    if (h == NULL)
        return error_memory(err);
    h->o = *o;
    h->listener = (struct event_watch){ .fd = -1, .ready = on_listener, .ctx = h };
    h->pause = (struct event_timer){ .fire = on_pause_over, .ctx = h };
    for (size_t i = 0; i < HTTPD_CONNECTIONS; i++) {
        struct connection *c = &h->connections[i];

        c->httpd = h;
        c->fd = -1;
        c->watch = (struct event_watch){ .fd = -1, .ready = on_connection, .ctx = c };
        c->limit = (struct event_timer){ .fire = on_limit, .ctx = c };
        c->answer = (struct strbuf)STRBUF_INIT(HTTPD_PAGE_MAX + 1024);
    }
    if (event_watch(o->loop, &h->listener, o->listener, EPOLLIN, err) < 0)
        return -1;
    *ret = TAKE_PTR(h);
    return 0;
}

void httpd_free(struct httpd *h)
{
    if (h == NULL)
        return;
    for (size_t i = 0; i < HTTPD_CONNECTIONS; i++) {
        if (h->connections[i].fd >= 0)
            drop(&h->connections[i]);
    }
    event_unwatch(h->o.loop, &h->listener);
    event_timer_stop(h->o.loop, &h->pause);
    free(h);
}

/* ---- a thread of its own ---- */

static void *run_loop(void *arg)
{
    struct error err = ERROR_INIT;

    (void)!event_loop_run(arg, &err);
    return NULL;
}

int httpd_start_thread(const struct httpd_options *o, struct error *err)
{
    static struct httpd *kept; /* reachable, for whoever looks for leaks at the end */
    AUTO_EVENT_LOOP struct event_loop *loop = NULL;
    struct httpd_options own = *o;

    if (event_loop_new(&loop, err) < 0)
        return -1;
    own.loop = loop;
    if (httpd_new(&own, &kept, err) < 0)
        return -1;
    if (thread_start(run_loop, loop, "--http", err) < 0) {
        httpd_free(kept);
        kept = NULL;
        return -1;
    }
    loop = NULL; /* the thread's */
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/driver_kubernetes_api.h"

#include "common/deadline.h"
#include "common/fs.h"
#include "common/strbuf.h"
#include "common/wipe.h"
#include "http/client.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#define CONNECT_MS      5000u
#define TOKEN_MAX       KIB(12)
#define BODY_MAX        KIB(256)
#define PAUSE_FIRST_MS  100u
#define PAUSE_LONGEST   2000u
#define ATTEMPT_MS      15000u /* a server that says nothing isn't waited for to the deadline */
#define ATTEMPTS        8u
#define LIST_PAGES_MAX  100000u
#define REASON_CONFLICT "AlreadyExists"

struct connection {
    struct event_loop *loop;
    struct http_client *http;
    struct connection *next;
};

struct kube_api {
    char *url, *ca_path, *token_path;
    pthread_mutex_t lock; /* of idle */
    struct connection *idle;
};

struct answer {
    bool done;
    enum http_failure failure;
    char problem[160];
    long status;
    uint64_t retry_after_ms;
    json_t *body; /* NULL: none, or not JSON */
};

/* ---- connections ---- */

static void connection_free(struct connection *c)
{
    if (c == NULL)
        return;
    http_client_free(c->http);
    event_loop_free(c->loop);
    free(c);
}
DEFINE_AUTO(connection, connection_free)
#define AUTO_CONNECTION __attribute__((cleanup(cleanup_connection)))

static int connection_new(const struct kube_api *a, struct connection **ret, struct error *err)
{
    const struct http_options o = { .ca_path = a->ca_path, .connect_timeout_ms = CONNECT_MS };
    AUTO_CONNECTION struct connection *c = calloc(1, sizeof(*c));

    if (c == NULL)
        return error_memory(err);
    if (event_loop_new(&c->loop, err) < 0 || http_client_new(c->loop, &o, &c->http, err) < 0)
        return -1;
    *ret = TAKE_PTR(c);
    return 0;
}

static int connection_take(struct kube_api *a, struct connection **ret, struct error *err)
{
    struct connection *c;

    (void)pthread_mutex_lock(&a->lock);
    c = a->idle;
    if (c != NULL)
        a->idle = c->next;
    (void)pthread_mutex_unlock(&a->lock);
    if (c == NULL)
        return connection_new(a, ret, err);
    c->next = NULL;
    *ret = c;
    return 0;
}

static void connection_give(struct kube_api *a, struct connection *c)
{
    (void)pthread_mutex_lock(&a->lock);
    c->next = a->idle;
    a->idle = c;
    (void)pthread_mutex_unlock(&a->lock);
}

int kube_api_new(const struct kube_api_options *o, struct kube_api **ret, struct error *err)
{
    AUTO_KUBE_API struct kube_api *a = calloc(1, sizeof(*a));

    if (a == NULL)
        return error_memory(err);
    (void)pthread_mutex_init(&a->lock, NULL);
    if (str_dup_opt(&a->url, o->url, err) < 0 || str_dup_opt(&a->ca_path, o->ca_path, err) < 0 ||
        str_dup_opt(&a->token_path, o->token_path, err) < 0)
        return -1;
    *ret = TAKE_PTR(a);
    return 0;
}

void kube_api_free(struct kube_api *a)
{
    if (a == NULL)
        return;
    while (a->idle != NULL) {
        struct connection *c = a->idle;

        a->idle = c->next;
        connection_free(c);
    }
    (void)pthread_mutex_destroy(&a->lock);
    free(a->url);
    free(a->ca_path);
    free(a->token_path);
    free(a);
}

/* ---- one attempt ---- */

static void on_reply(void *ctx, const struct http_reply *reply)
{
    struct answer *to = ctx;

    to->done = true;
    to->failure = reply->failure;
    to->status = reply->status;
    to->retry_after_ms = reply->retry_after_ms;
    (void)snprintf(to->problem, sizeof(to->problem), "%s", reply->problem);
    if (reply->failure == HTTP_WHOLE && reply->body_len > 0 &&
        json_parse(reply->body, reply->body_len, "the answer", &to->body, NULL) < 0)
        to->body = NULL;
}

/* "Bearer " and what is in the file, in memory that is wiped. Read anew each time: not through
 * fs.h, which refuses the link that kubelet puts there. */
static int read_token(const struct kube_api *a, struct wipe_buffer *ret, struct error *err)
{
    char text[TOKEN_MAX + 1];
    AUTO_CLOSE int fd = open(a->token_path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    ssize_t n;
    int rc;

    if (fd < 0)
        return error_errno(err, errno, "the API server's token '%s'", a->token_path);
    n = read(fd, text, sizeof(text));
    if (n < 0)
        return error_errno(err, errno, "the API server's token '%s'", a->token_path);
    while (n > 0 && strchr("\r\n \t", text[n - 1]) != NULL)
        n--;
    if (n == 0 || (size_t)n > TOKEN_MAX)
        rc = error_set(err, ERR_UNAVAILABLE, "the API server's token '%s' is %s", a->token_path,
                       n == 0 ? "empty" : "too long");
    else
        rc = wipe_buffer_add(ret, "Bearer ", 7, KIB(16)) < 0 ||
                     wipe_buffer_add(ret, text, (size_t)n, KIB(16)) < 0
                 ? error_memory(err)
                 : 0;
    explicit_bzero(text, sizeof(text)); /* also what was too long */
    return rc;
}

static int encode(const json_t *body, struct wipe_buffer *ret, struct error *err)
{
    char *text;
    int rc;

    if (body == NULL)
        return 0;
    text = json_text(body, JSON_COMPACT);
    if (text == NULL)
        return error_memory(err);
    rc = wipe_buffer_add(ret, text, strlen(text), BODY_MAX);
    wipe_free(text);
    return rc < 0 ? error_set(err, ERR_EXHAUSTED, "a request to the API server is too long") : 0;
}

static int attempt(const struct kube_api *a, struct connection *c, const struct kube_request *r,
                   const struct wipe_buffer *body, struct answer *to, struct error *err)
{
    AUTO_WIPE_BUFFER struct wipe_buffer token = WIPE_BUFFER_INIT;
    char url[KUBE_PATH_MAX + 512];
    uint64_t limit = deadline_in(ATTEMPT_MS);
    struct http_request request = {
        .method = r->method,
        .url = url,
        .headers = { { "Accept", "application/json" },
                     { "Content-Type",
                       r->content_type != NULL ? r->content_type : "application/json" },
                     { "Authorization", NULL } },
        .body = body->bytes,
        .body_len = body->len,
        .deadline = r->deadline < limit ? r->deadline : limit,
    };
    struct http_transfer *transfer;

    if (snprintf(url, sizeof(url), "%s%s", a->url, r->path) >= (int)sizeof(url))
        return error_set(err, ERR_INTERNAL, "a path of the API server is too long");
    if (read_token(a, &token, err) < 0)
        return -1;
    request.headers[2].value = token.bytes;
    if (http_start(c->http, &request, on_reply, to, &transfer, err) < 0)
        return -1;
    while (!to->done) {
        if (event_loop_turn(c->loop, request.deadline, err) < 0) {
            http_cancel(transfer);
            return -1;
        }
    }
    return 0;
}

/* ---- what it means ---- */

static const struct status_row {
    long status;
    enum error_code code;
} statuses[] = {
    { 401, ERR_UNAVAILABLE }, /* a token that is over; its file gets another */
    { 403, ERR_PERMISSION },  { 404, ERR_NOT_FOUND },   { 408, ERR_UNAVAILABLE },
    { 409, ERR_ABORTED },     { 410, ERR_ABORTED },     { 429, ERR_UNAVAILABLE },
    { 500, ERR_UNAVAILABLE }, { 502, ERR_UNAVAILABLE }, { 503, ERR_UNAVAILABLE },
    { 504, ERR_UNAVAILABLE },
};

static enum error_code code_of(long status, const char *reason, const char *message)
{
    if (strcmp(reason, REASON_CONFLICT) == 0)
        return ERR_EXISTS;
    if (status == 403 && strstr(message, "exceeded quota") != NULL)
        return ERR_EXHAUSTED;
    for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
        if (statuses[i].status == status)
            return statuses[i].code;
    }
    return ERR_INTERNAL;
}

const char *kube_text(const json_t *obj, const char *key)
{
    const char *text = json_string_value(json_object_get(obj, key));

    return text != NULL ? text : "";
}

/* Whole, or an error. The path is shown without its query. */
static int judge(const struct kube_request *r, const struct answer *got, struct error *err)
{
    int path = (int)strcspn(r->path, "?");

    if (got->failure != HTTP_WHOLE)
        return error_set(err, ERR_UNAVAILABLE, "the API server (%s %.*s): %s", r->method, path,
                         r->path, got->problem);
    if (got->status >= 200 && got->status < 300 && got->body != NULL)
        return 0;
    if (got->status >= 200 && got->status < 300)
        return error_set(err, ERR_UNAVAILABLE, "the API server (%s %.*s) answered no JSON",
                         r->method, path, r->path);
    const char *reason = kube_text(got->body, "reason"), *message = kube_text(got->body, "message");
    return error_set(err, code_of(got->status, reason, message),
                     "the API server (%s %.*s): %ld %s%s%s", r->method, path, r->path, got->status,
                     reason, r->quiet || message[0] == '\0' ? "" : ": ", r->quiet ? "" : message);
}

static bool repeat(const struct kube_request *r, unsigned n, uint64_t wait_ms)
{
    uint64_t pause = (uint64_t)PAUSE_FIRST_MS << (n < 5 ? n : 5);

    if (pause > PAUSE_LONGEST)
        pause = PAUSE_LONGEST;
    if (wait_ms > pause)
        pause = wait_ms;
    if (n + 1 >= ATTEMPTS || pause >= deadline_left(r->deadline))
        return false;
    sleep_ms(pause);
    return true;
}

static int ask(struct kube_api *a, struct connection *c, const struct kube_request *r,
               const struct wipe_buffer *body, json_t **ret, struct error *err)
{
    struct error last = ERROR_INIT;

    for (unsigned n = 0;; n++) {
        struct answer got = { .done = false };
        int rc = attempt(a, c, r, body, &got, &last);

        if (rc == 0)
            rc = judge(r, &got, &last);
        if (rc == 0) {
            if (ret != NULL)
                *ret = got.body;
            else
                json_decref(got.body);
            return 0;
        }
        json_decref(got.body);
        if (last.code != ERR_UNAVAILABLE)
            return error_pass(err, &last);
        if (!repeat(r, n, got.retry_after_ms)) {
            if (deadline_left(r->deadline) == 0)
                (void)error_recode(&last, ERR_DEADLINE);
            return error_pass(err, &last);
        }
    }
}

int kube_call(struct kube_api *a, const struct kube_request *r, json_t **ret, struct error *err)
{
    AUTO_WIPE_BUFFER struct wipe_buffer body = WIPE_BUFFER_INIT;
    struct connection *c = NULL;
    int rc;

    if (encode(r->body, &body, err) < 0 || connection_take(a, &c, err) < 0)
        return -1;
    rc = ask(a, c, r, &body, ret, err);
    connection_give(a, c);
    return rc;
}

/* ---- lists ---- */

/* What may stand in a query as it is; the server's continue tokens are base64url. */
static bool token_valid(const char *text)
{
    return strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=.") ==
           strlen(text);
}

static int page_items(const json_t *page, kube_item_cb *cb, void *ctx, struct error *err)
{
    const json_t *items = json_object_get(page, "items");
    json_t *item;
    size_t i;

    if (!json_is_array(items))
        return error_set(err, ERR_UNAVAILABLE, "the API server answered a list without items");
    json_array_foreach (items, i, item) {
        if (cb(ctx, item, err) < 0)
            return -1;
    }
    return 0;
}

int kube_list(struct kube_api *a, const char *path, unsigned page, uint64_t deadline,
              kube_item_cb *cb, void *ctx, struct error *err)
{
    char at[KUBE_PATH_MAX + 1], next[600] = "";

    for (unsigned n = 0; n < LIST_PAGES_MAX; n++) {
        AUTO_JSON json_t *got = NULL;
        struct kube_request r = { .method = "GET", .path = at, .deadline = deadline };

        if (snprintf(at, sizeof(at), "%s%climit=%u%s%s", path, strchr(path, '?') ? '&' : '?', page,
                     next[0] == '\0' ? "" : "&continue=", next) >= (int)sizeof(at))
            return error_set(err, ERR_INTERNAL, "a path of the API server is too long");
        if (kube_call(a, &r, &got, err) < 0 || page_items(got, cb, ctx, err) < 0)
            return -1;
        const char *more = kube_text(json_object_get(got, "metadata"), "continue");
        if (more[0] == '\0')
            return 0;
        if (!token_valid(more) || str_copy(next, sizeof(next), more) < 0)
            return error_set(err, ERR_UNAVAILABLE, "the API server's list can't be continued");
    }
    return error_set(err, ERR_UNAVAILABLE, "the API server's list has no end");
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "http/transfer.h"

#include "common/deadline.h"
#include "common/parse.h"
#include "common/wipe.h"

#include <errno.h>
#include <strings.h>

#define USER_AGENT        "coffer/" COFFER_VERSION
#define RETRY_AFTER_MAX_S 3600u

struct http_transfer {
    struct http_client *client;
    struct http_transfer *prev, *next;
    CURL *easy;
    struct curl_slist *headers;
    struct event_timer timer; /* our own: libcurl's doesn't count the wait for a connection */
    http_done done;
    void *ctx;
    struct wipe_buffer body;
    bool too_big;
    bool headers_ended; /* of the last block: an empty line came */
    uint64_t retry_after_ms;
    char location[1024];
    char problem[CURL_ERROR_SIZE];
};

/* ---- what comes back ---- */

static size_t take_body(char *data, size_t size, size_t n, void *ctx)
{
    struct http_transfer *t = ctx;

    if (wipe_buffer_add(&t->body, data, size * n, HTTP_BODY_MAX) < 0) {
        t->too_big = true;
        return 0; /* libcurl ends the transfer */
    }
    return size * n;
}

/* `line` isn't terminated. NULL: another header. */
static const char *value_of(const char *line, size_t len, const char *name, size_t *ret_len)
{
    size_t n = strlen(name);

    if (len <= n || line[n] != ':' || strncasecmp(line, name, n) != 0)
        return NULL;
    line += n + 1;
    len -= n + 1;
    while (len > 0 && (*line == ' ' || *line == '\t')) {
        line++;
        len--;
    }
    while (len > 0 && strchr("\r\n \t", line[len - 1]) != NULL)
        len--;
    *ret_len = len;
    return line;
}

/* Seconds only: a date would need a clock that both sides agree on. */
static uint64_t retry_after(const char *value, size_t len)
{
    char text[16];
    uint64_t seconds;

    if (len >= sizeof(text))
        return 0;
    memcpy(text, value, len);
    text[len] = '\0';
    if (parse_u64(text, &seconds) < 0)
        return 0;
    return (seconds < RETRY_AFTER_MAX_S ? seconds : RETRY_AFTER_MAX_S) * 1000;
}

static size_t take_header(char *line, size_t size, size_t n, void *ctx)
{
    struct http_transfer *t = ctx;
    const char *value;
    size_t len;

    t->headers_ended = size * n > 0 && (line[0] == '\r' || line[0] == '\n');
    if ((value = value_of(line, size * n, "Retry-After", &len)) != NULL)
        t->retry_after_ms = retry_after(value, len);
    if ((value = value_of(line, size * n, "Location", &len)) != NULL && len < sizeof(t->location)) {
        memcpy(t->location, value, len);
        t->location[len] = '\0';
    }
    return size * n;
}

static const struct failure_row {
    CURLcode code;
    enum http_failure failure;
} failures[] = {
    { CURLE_OK, HTTP_WHOLE },
    { CURLE_COULDNT_RESOLVE_HOST, HTTP_CONNECT },
    { CURLE_COULDNT_RESOLVE_PROXY, HTTP_CONNECT },
    { CURLE_COULDNT_CONNECT, HTTP_CONNECT },
    { CURLE_OPERATION_TIMEDOUT, HTTP_CONNECT }, /* only connecting has a limit of libcurl's */
    { CURLE_SSL_CONNECT_ERROR, HTTP_TLS },
    { CURLE_PEER_FAILED_VERIFICATION, HTTP_TLS },
    { CURLE_SSL_CERTPROBLEM, HTTP_TLS },
    { CURLE_SSL_CIPHER, HTTP_TLS },
    { CURLE_SSL_CACERT_BADFILE, HTTP_TLS },
    { CURLE_FILESIZE_EXCEEDED, HTTP_TOO_BIG },
};

/* In mid-handshake, which says nothing of who answers: he may just end. */
static bool was_reset(const struct http_transfer *t)
{
    long e = 0;

    return curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &e) == CURLE_OK &&
           (e == ECONNRESET || e == EPIPE);
}

static enum http_failure failure_of(const struct http_transfer *t, CURLcode result)
{
    if (t->too_big)
        return HTTP_TOO_BIG;
    if (result == CURLE_SSL_CONNECT_ERROR && was_reset(t))
        return HTTP_CONNECT;
    for (size_t i = 0; i < ARRAY_SIZE(failures); i++) {
        if (failures[i].code == result)
            return failures[i].failure;
    }
    return HTTP_CUT;
}

/* ---- the end ---- */

/* Gives its connection back, so that what `done` starts can have it. */
static void detach(struct http_transfer *t)
{
    event_timer_stop(t->client->loop, &t->timer);
    if (t->prev != NULL)
        t->prev->next = t->next;
    else if (t->client->transfers == t)
        t->client->transfers = t->next;
    if (t->next != NULL)
        t->next->prev = t->prev;
    t->prev = t->next = NULL;
    if (t->easy != NULL) {
        (void)curl_multi_remove_handle(t->client->multi, t->easy);
        curl_easy_cleanup(t->easy);
        t->easy = NULL;
    }
}

static void transfer_free(struct http_transfer *t)
{
    detach(t);
    curl_slist_free_all(t->headers);
    wipe_buffer_release(&t->body);
    explicit_bzero(t, sizeof(*t));
    free(t);
}

static void cleanup_transfer(struct http_transfer **t)
{
    if (*t != NULL)
        transfer_free(*t);
}
#define AUTO_TRANSFER __attribute__((cleanup(cleanup_transfer)))

static void report(struct http_transfer *t, enum http_failure failure, const char *problem)
{
    struct http_reply reply = { .failure = failure,
                                .problem = failure == HTTP_WHOLE ? "" : problem,
                                .body = t->body.bytes == NULL ? "" : t->body.bytes,
                                .body_len = t->body.len,
                                .retry_after_ms = t->retry_after_ms,
                                .location = t->location };

    if (failure == HTTP_WHOLE)
        (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &reply.status);
    detach(t);
    t->done(t->ctx, &reply);
    transfer_free(t);
}

void transfer_finish(struct http_transfer *t, CURLcode result)
{
    enum http_failure failure = failure_of(t, result);
    const char *problem = t->problem[0] != '\0' ? t->problem : curl_easy_strerror(result);

    /* libcurl takes a reply that ends in its headers for a whole one without a body. */
    if (failure == HTTP_WHOLE && !t->headers_ended) {
        failure = HTTP_CUT;
        problem = "the reply ended in its headers";
    }
    if (failure == HTTP_TOO_BIG)
        problem = "the reply is longer than 1 MiB";
    report(t, failure, problem);
}

static void on_deadline(void *ctx)
{
    report(ctx, HTTP_TIMEOUT, "no reply came before the deadline");
}

void http_cancel(struct http_transfer *t)
{
    if (t != NULL)
        transfer_free(t);
}

/* ---- the start ---- */

#define SET(t, option, value) (curl_easy_setopt((t)->easy, option, value) == CURLE_OK)

static bool set_trust(struct http_transfer *t)
{
    const struct http_client *c = t->client;

    if (c->unix_path != NULL)
        return SET(t, CURLOPT_PROTOCOLS_STR, "http") && SET(t, CURLOPT_FOLLOWLOCATION, 0L) &&
               SET(t, CURLOPT_UNIX_SOCKET_PATH, c->unix_path);
    /* No TLS session is kept: 7.88 frees a host's name twice when it has no memory to keep one. */
    return SET(t, CURLOPT_SSL_SESSIONID_CACHE, 0L) && SET(t, CURLOPT_PROTOCOLS_STR, "https") &&
           SET(t, CURLOPT_FOLLOWLOCATION, 0L) &&
           SET(t, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) &&
           SET(t, CURLOPT_SSL_VERIFYPEER, 1L) && SET(t, CURLOPT_SSL_VERIFYHOST, 2L) &&
           SET(t, CURLOPT_CAINFO, c->ca_path) && SET(t, CURLOPT_CAPATH, NULL) &&
           SET(t, CURLOPT_CA_CACHE_TIMEOUT, 0L) && SET(t, CURLOPT_SSLCERT, c->cert_path) &&
           SET(t, CURLOPT_SSLKEY, c->key_path);
}

/* Half of the time at most: then there is some left for another server. */
static long connect_limit(const struct http_client *c, uint64_t deadline)
{
    uint64_t half = deadline_left(deadline) / 2;

    return (long)(half == 0 ? 1 : half < c->connect_timeout_ms ? half : c->connect_timeout_ms);
}

/* An empty proxy is what stops libcurl from asking the environment, and an empty list of exceptions
 * likewise. QUICK_EXIT: a name that is still being looked up when the request ends is left to its
 * thread, else the whole loop would wait for the resolver (seen with 7.88). */
static bool set_network(struct http_transfer *t, uint64_t deadline)
{
    const struct http_client *c = t->client;

    return SET(t, CURLOPT_PROXY, c->proxy == NULL ? "" : c->proxy) && SET(t, CURLOPT_NOPROXY, "") &&
           SET(t, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L) && SET(t, CURLOPT_QUICK_EXIT, 1L) &&
           SET(t, CURLOPT_NOSIGNAL, 1L) && SET(t, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED) &&
           SET(t, CURLOPT_TCP_KEEPALIVE, 1L) && SET(t, CURLOPT_TIMEOUT_MS, 0L) &&
           SET(t, CURLOPT_CONNECTTIMEOUT_MS, connect_limit(c, deadline)) &&
           SET(t, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) &&
           SET(t, CURLOPT_USERAGENT, USER_AGENT);
}

static bool set_callbacks(struct http_transfer *t)
{
    return SET(t, CURLOPT_WRITEFUNCTION, take_body) && SET(t, CURLOPT_WRITEDATA, t) &&
           SET(t, CURLOPT_HEADERFUNCTION, take_header) && SET(t, CURLOPT_HEADERDATA, t) &&
           SET(t, CURLOPT_ERRORBUFFER, t->problem) && SET(t, CURLOPT_PRIVATE, t) &&
           SET(t, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)HTTP_BODY_MAX);
}

static bool add_header(struct http_transfer *t, const char *name, const char *value)
{
    AUTO_WIPE_BUFFER struct wipe_buffer line = WIPE_BUFFER_INIT;

    if (wipe_buffer_add(&line, name, strlen(name), KIB(16)) < 0 ||
        wipe_buffer_add(&line, ": ", 2, KIB(16)) < 0 ||
        wipe_buffer_add(&line, value, strlen(value), KIB(16)) < 0)
        return false;
    struct curl_slist *longer = curl_slist_append(t->headers, line.bytes);
    if (longer == NULL)
        return false;
    t->headers = longer;
    return true;
}

static bool set_headers(struct http_transfer *t, const struct http_request *r)
{
    struct curl_slist *plain = curl_slist_append(NULL, "Expect:"); /* no "100-continue" */

    if (plain == NULL)
        return false;
    t->headers = plain;
    for (size_t i = 0; i < HTTP_HEADERS_MAX && r->headers[i].name != NULL; i++) {
        if (!add_header(t, r->headers[i].name, r->headers[i].value))
            return false;
    }
    return SET(t, CURLOPT_HTTPHEADER, t->headers);
}

static bool set_request(struct http_transfer *t, const struct http_request *r)
{
    if (!SET(t, CURLOPT_URL, r->url) || !set_headers(t, r))
        return false;
    if (r->body != NULL && (!SET(t, CURLOPT_POSTFIELDSIZE, (long)r->body_len) ||
                            !SET(t, CURLOPT_COPYPOSTFIELDS, r->body)))
        return false;
    return SET(t, CURLOPT_CUSTOMREQUEST, r->method);
}

/* A line end in a header's value would be another header. */
static int check_request(const struct http_request *r, struct error *err)
{
    for (size_t i = 0; i < HTTP_HEADERS_MAX && r->headers[i].name != NULL; i++) {
        for (const char *p = r->headers[i].value; *p != '\0'; p++) {
            if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e)
                return error_set(err, ERR_INVALID, "the header %s holds what no header may hold",
                                 r->headers[i].name);
        }
    }
    return 0;
}

static void enter(struct http_transfer *t)
{
    struct http_client *c = t->client;

    t->next = c->transfers;
    if (t->next != NULL)
        t->next->prev = t;
    c->transfers = t;
}

int http_start(struct http_client *c, const struct http_request *r, http_done done, void *ctx,
               struct http_transfer **ret, struct error *err)
{
    if (check_request(r, err) < 0)
        return -1;
    AUTO_TRANSFER struct http_transfer *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return error_memory(err);
    t->client = c;
    t->done = done;
    t->ctx = ctx;
    t->timer = (struct event_timer){ .fire = on_deadline, .ctx = t };
    enter(t);
    t->easy = curl_easy_init();
    if (t->easy == NULL || !set_trust(t) || !set_network(t, r->deadline) || !set_callbacks(t) ||
        !set_request(t, r) || curl_multi_add_handle(c->multi, t->easy) != CURLM_OK)
        return error_set(err, ERR_EXHAUSTED, "libcurl can't start a request");
    event_timer_set(c->loop, &t->timer, r->deadline);
    *ret = TAKE_PTR(t);
    return 0;
}

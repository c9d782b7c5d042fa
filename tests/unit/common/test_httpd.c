/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/httpd.h"

#include "common/deadline.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- the request ---- */

static int parse(const char *text, const char **path, size_t *len)
{
    *path = NULL;
    *len = 0;
    return httpd_parse(text, strlen(text), path, len);
}

static void a_request_has_one_answer(void **state)
{
    static const struct {
        const char *text;
        int status;
        const char *path;
    } rows[] = {
        { "", 0, NULL },
        { "GET /m", 0, NULL },
        { "GET /metrics HTTP/1.1\r\n", 0, NULL },
        { "GET /metrics HTTP/1.1\r\nHost: x\r\n", 0, NULL },
        { "GET /metrics HTTP/1.1\r\n\r\n", 200, "/metrics" },
        { "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200, "/metrics" },
        { "GET /healthz HTTP/1.0\n\n", 200, "/healthz" },
        { "GET /healthz?verbose HTTP/1.1\r\n\r\n", 200, "/healthz" },
        { "GET / HTTP/1.1\r\n\r\n", 200, "/" },
        { "POST /metrics HTTP/1.1\r\n\r\n", 405, NULL },
        { "HEAD /metrics HTTP/1.1\r\n\r\n", 405, NULL },
        { "get /metrics HTTP/1.1\r\n\r\n", 405, NULL },
        { "GET /metrics HTTP/2.0\r\n\r\n", 505, NULL },
        { "GET /metrics HTTP/1\r\n\r\n", 400, NULL },
        { "GET /metrics\r\n\r\n", 400, NULL },
        { "GET metrics HTTP/1.1\r\n\r\n", 400, NULL },
        { "GET  /metrics HTTP/1.1\r\n\r\n", 400, NULL },
        { "GET /a b HTTP/1.1\r\n\r\n", 400, NULL },
        { "GET /a\tb HTTP/1.1\r\n\r\n", 400, NULL },
        { "GET /a\rb HTTP/1.1\r\n\r\n", 400, NULL },
        { " /metrics HTTP/1.1\r\n\r\n", 400, NULL },
        { "\r\n\r\n", 400, NULL },
        { "\x16\x03\x01", 400, NULL }, /* somebody speaks TLS */
        { "GET /\x01 HTTP/1.1", 400, NULL },
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const char *path;
        size_t len;

        assert_int_equal(parse(rows[i].text, &path, &len), rows[i].status);
        if (rows[i].path == NULL) {
            assert_null(path);
            continue;
        }
        assert_int_equal(len, strlen(rows[i].path));
        assert_memory_equal(path, rows[i].path, len);
    }
}

static void a_request_over_the_limit_is_refused(void **state)
{
    char text[HTTPD_REQUEST_MAX];
    const char *path = NULL;
    size_t len = 0;

    memset(text, 'x', sizeof(text));
    memcpy(text, "GET / HTTP/1.1\r\n", 16);
    assert_int_equal(httpd_parse(text, sizeof(text) - 1, &path, &len), 0);
    assert_int_equal(httpd_parse(text, sizeof(text), &path, &len), 431);
    memcpy(text + sizeof(text) - 4, "\r\n\r\n", 4);
    assert_int_equal(httpd_parse(text, sizeof(text), &path, &len), 200);
}

/* ---- the listener ---- */

static void addresses_that_are_none_are_refused(void **state)
{
    static const char *const bad[] = { "9810",           "127.0.0.1",    "127.0.0.1:",
                                       "127.0.0.1:0",    "127.0.0.1:x",  "127.0.0.1:65536",
                                       "localhost:9810", "::1:9810",     "[::1]9810",
                                       "[]:9810",        "[::1:9810",    "256.0.0.1:9810",
                                       "[127.0.0.1]:1",  "127.0.0.1:-1", "" };

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct error err = ERROR_INIT;
        int fd = -1;
        char want[128];

        (void)snprintf(want, sizeof(want), "--http '%s' is not ADDRESS:PORT", bad[i]);
        assert_int_equal(httpd_listen(bad[i], &fd, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_non_null(strstr(err.msg, want));
        assert_int_equal(fd, -1);
    }
}

/* A port that is free now. */
static unsigned free_port(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    (void)close(fd);
    return ntohs(a.sin_port);
}

static int listen_somewhere(const char *format, struct sockaddr_in *ret)
{
    for (int attempt = 0; attempt < 20; attempt++) {
        struct error err = ERROR_INIT;
        unsigned port = free_port();
        char text[64];
        int fd;

        (void)snprintf(text, sizeof(text), "%s:%u", format, port);
        *ret = (struct sockaddr_in){ .sin_family = AF_INET,
                                     .sin_port = htons((uint16_t)port),
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        if (httpd_listen(text, &fd, &err) == 0)
            return fd;
    }
    fail_msg("no free port");
    return -1;
}

static int dial(const struct sockaddr_in *to)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)to, sizeof(*to)), 0);
    return fd;
}

static void every_address_is_the_empty_one(void **state)
{
    struct sockaddr_in to;
    AUTO_CLOSE int fd = listen_somewhere("", &to);
    AUTO_CLOSE int peer UNUSED = dial(&to);
    struct error err = ERROR_INIT;
    char text[32];
    int second = -1;

    (void)snprintf(text, sizeof(text), ":%u", ntohs(to.sin_port));
    assert_int_equal(httpd_listen(text, &second, &err), -1);
    assert_non_null(strstr(err.msg, "listen on --http '"));
    assert_true(fd >= 0);
}

/* ---- answers ---- */

struct world {
    struct event_loop *loop;
    struct httpd *httpd;
    int listener;
    struct sockaddr_in to;
    size_t page_len;
    bool ill;
};

static int write_page(void *ctx, struct strbuf *body)
{
    struct world *w = ctx;

    for (size_t i = 0; i < w->page_len; i++)
        strbuf_adds(body, "p");
    return w->ill ? 503 : 200;
}

static const struct httpd_page pages[] = { { "/page", "text/test", write_page } };

static void world_make(struct world *w)
{
    struct error err = ERROR_INIT;

    *w = (struct world){ .page_len = 4 };
    assert_int_equal(event_loop_new(&w->loop, &err), 0);
    w->listener = listen_somewhere("127.0.0.1", &w->to);
    const struct httpd_options o = {
        .loop = w->loop, .listener = w->listener, .pages = pages, .n_pages = 1, .ctx = w
    };
    assert_int_equal(httpd_new(&o, &w->httpd, &err), 0);
}

static void world_free(struct world *w)
{
    httpd_free(w->httpd);
    event_loop_free(w->loop);
    (void)close(w->listener);
}

static void turn(struct world *w, uint64_t ms)
{
    struct error err = ERROR_INIT;

    assert_int_equal(event_loop_turn(w->loop, deadline_in(ms), &err), 0);
}

/* Until the answer is whole: the peer's side, in the same thread. */
static size_t fetch(struct world *w, const char *request, char *answer, size_t size)
{
    AUTO_CLOSE int fd = dial(&w->to);
    size_t len = 0;

    assert_int_equal(write(fd, request, strlen(request)), strlen(request));
    for (unsigned i = 0; i < 20000; i++) {
        ssize_t n = recv(fd, answer + len, size - 1 - len, MSG_DONTWAIT);
        if (n == 0)
            break;
        len += n > 0 ? (size_t)n : 0;
        turn(w, 1);
    }
    answer[len] = '\0';
    return len;
}

static void a_page_comes_whole_with_its_length(void **state)
{
    struct world w;
    char text[1024];

    world_make(&w);
    (void)fetch(&w, "GET /page HTTP/1.1\r\n\r\n", text, sizeof(text));
    assert_string_equal(text, "HTTP/1.1 200 OK\r\nContent-Type: text/test\r\nContent-Length: 4\r\n"
                              "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
                              "Connection: close\r\n\r\npppp");
    w.ill = true;
    (void)fetch(&w, "GET /page HTTP/1.1\r\n\r\n", text, sizeof(text));
    assert_non_null(strstr(text, "HTTP/1.1 503 Service Unavailable\r\n"));
    (void)fetch(&w, "GET /pages HTTP/1.1\r\n\r\n", text, sizeof(text));
    assert_non_null(strstr(text, "HTTP/1.1 404 Not Found\r\n"));
    (void)fetch(&w, "PUT /page HTTP/1.1\r\n\r\n", text, sizeof(text));
    assert_non_null(strstr(text, "HTTP/1.1 405 "));
    assert_non_null(strstr(text, "\r\nAllow: GET\r\n"));
    world_free(&w);
}

static void a_large_page_comes_in_parts(void **state)
{
    static char text[MIB(1) + 2048];
    struct world w;

    world_make(&w);
    w.page_len = HTTPD_PAGE_MAX;
    size_t len = fetch(&w, "GET /page HTTP/1.1\r\n\r\n", text, sizeof(text));
    assert_int_equal(len - (size_t)(strstr(text, "\r\n\r\n") + 4 - text), HTTPD_PAGE_MAX);
    w.page_len = HTTPD_PAGE_MAX + 1;
    (void)fetch(&w, "GET /page HTTP/1.1\r\n\r\n", text, sizeof(text));
    assert_non_null(strstr(text, "HTTP/1.1 500 Internal Server Error\r\n"));
    world_free(&w);
}

static void who_says_nothing_keeps_nobody_out(void **state)
{
    int idle[3 * HTTPD_CONNECTIONS];
    struct world w;
    char text[1024];

    world_make(&w);
    for (size_t i = 0; i < ARRAY_SIZE(idle); i++) {
        idle[i] = dial(&w.to);
        turn(&w, 1000);
    }
    (void)fetch(&w, "GET /page HTTP/1.1\r\n\r\n", text, sizeof(text));
    assert_non_null(strstr(text, " 200 OK\r\n"));
    for (size_t i = 0; i < ARRAY_SIZE(idle); i++)
        (void)close(idle[i]);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_has_one_answer),
        cmocka_unit_test(a_request_over_the_limit_is_refused),
        cmocka_unit_test(addresses_that_are_none_are_refused),
        cmocka_unit_test(every_address_is_the_empty_one),
        cmocka_unit_test(a_page_comes_whole_with_its_length),
        cmocka_unit_test(a_large_page_comes_in_parts),
        cmocka_unit_test(who_says_nothing_keeps_nobody_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

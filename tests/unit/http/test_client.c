/* SPDX-License-Identifier: Apache-2.0 */
/* What libcurl would do by itself and must not: wait for a resolver, listen to the environment. The
 * requests themselves are tests/component/keyd_vault.py's. */
#include "common/base.h"
#include "http/client.h"

#include "common/deadline.h"
#include "common/strbuf.h"
#include "tests/support/tmpdir.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- played: a resolver that nobody answers ---- */

static atomic_bool asked, over, answered;

/* libcurl's thread calls this one. It ends by itself some time, so that a wait for it ends too. */
int getaddrinfo(const char *node UNUSED, const char *service UNUSED,
                const struct addrinfo *hints UNUSED, struct addrinfo **ret UNUSED)
{
    uint64_t limit = deadline_in(20000);

    atomic_store(&asked, true);
    while (!atomic_load(&over) && deadline_left(limit) > 0)
        sleep_ms(10);
    atomic_store(&answered, true);
    return EAI_AGAIN;
}

/* ---- one request ---- */

struct answer {
    unsigned times;
    enum http_failure failure;
};

static void on_done(void *ctx, const struct http_reply *reply)
{
    struct answer *a = ctx;

    a->times++;
    a->failure = reply->failure;
}

static struct http_client *client_of(struct event_loop *loop, const char *proxy)
{
    const struct http_options o = { .ca_path = "/dev/null",
                                    .proxy = proxy,
                                    .connect_timeout_ms = 5000 };
    struct http_client *c = NULL;

    assert_int_equal(http_client_new(loop, &o, &c, NULL), 0);
    return c;
}

static void start(struct http_client *c, const char *url, uint64_t ms, struct answer *a)
{
    const struct http_request r = { .method = "GET", .url = url, .deadline = deadline_in(ms) };
    struct http_transfer *t = NULL;

    assert_int_equal(http_start(c, &r, on_done, a, &t, NULL), 0);
}

static struct event_loop *loop_of(void)
{
    struct event_loop *loop = NULL;

    assert_int_equal(event_loop_new(&loop, NULL), 0);
    return loop;
}

static void test_a_resolver_that_hangs_holds_up_nobody(void **state UNUSED)
{
    AUTO_EVENT_LOOP struct event_loop *loop = loop_of();
    AUTO_HTTP_CLIENT struct http_client *c = client_of(loop, NULL);
    struct answer a = { .times = 0 };

    start(c, "https://nobody.example:8200/", 500, &a);
    for (int i = 0; i < 1000 && a.times == 0; i++)
        assert_int_equal(event_loop_turn(loop, deadline_in(100), NULL), 0);
    assert_int_equal(a.times, 1);
    assert_int_not_equal(a.failure, HTTP_WHOLE);
    assert_true(atomic_load(&asked));
    assert_false(atomic_load(&answered)); /* else it was waited for */
    atomic_store(&over, true);
}

/* ---- the environment ---- */

static void on_connection(void *ctx, uint32_t events UNUSED)
{
    *(bool *)ctx = true;
}

static int listen_anywhere(char url[64])
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&at, len) == 0 && listen(fd, 8) == 0 &&
                getsockname(fd, (struct sockaddr *)&at, &len) == 0);
    (void)snprintf(url, 64, "http://127.0.0.1:%u", ntohs(at.sin_port));
    return fd;
}

static void test_no_proxy_is_the_configuration_s_alone(void **state UNUSED)
{
    AUTO_EVENT_LOOP struct event_loop *loop = loop_of();
    char proxy[64];
    AUTO_CLOSE int fd = listen_anywhere(proxy);
    AUTO_HTTP_CLIENT struct http_client *c = client_of(loop, proxy);
    bool connected = false;
    struct event_watch w = { .fd = -1, .ready = on_connection, .ctx = &connected };
    struct answer a = { .times = 0 };

    assert_int_equal(setenv("NO_PROXY", "*", 1), 0);
    assert_int_equal(setenv("no_proxy", "*", 1), 0);
    assert_int_equal(event_watch(loop, &w, fd, EPOLLIN, NULL), 0);
    start(c, "https://127.0.0.1:1/", 60000, &a);
    for (int i = 0; i < 1000 && a.times == 0 && !connected; i++)
        assert_int_equal(event_loop_turn(loop, deadline_in(100), NULL), 0);
    assert_true(connected);
    event_unwatch(loop, &w);
    assert_int_equal(unsetenv("NO_PROXY") | unsetenv("no_proxy"), 0);
}

/* libcurl would write the keys of every connection there. */
static void test_no_key_log(void **state)
{
    const struct tmpdir *dir = *state;

    assert_int_not_equal(access(tmpdir_path(dir, "keys"), F_OK), 0);
}

static struct tmpdir folder;

static int set_up(void **state)
{
    folder = tmpdir_make();
    *state = &folder;
    return setenv("SSLKEYLOGFILE", tmpdir_path(&folder, "keys"), 1) | http_global_init(NULL);
}

static int tear_down(void **state UNUSED)
{
    tmpdir_remove(&folder);
    return 0;
}

/* ---- a socket of this machine ---- */

static int listen_on(const char *path)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(str_copy(at.sun_path, sizeof(at.sun_path), path), 0);
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(fd, 8) == 0);
    return fd;
}

static void test_plain_http_is_for_the_given_socket_alone(void **state UNUSED)
{
    static const struct {
        const char *url;
        bool connects;
    } rows[] = { { "https://localhost/x", false }, { "http://localhost/x", true } };
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    const char *path = tmpdir_path(&t, "s");
    AUTO_CLOSE int fd = listen_on(path);
    AUTO_EVENT_LOOP struct event_loop *loop = loop_of();
    const struct http_options o = { .unix_path = path, .connect_timeout_ms = 5000 };
    struct answer answers[ARRAY_SIZE(rows)] = { { .times = 0 } };
    struct http_client *made = NULL;

    assert_int_equal(http_client_new(loop, &o, &made, NULL), 0);
    AUTO_HTTP_CLIENT struct http_client *c = made;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        bool connected = false;
        struct event_watch w = { .fd = -1, .ready = on_connection, .ctx = &connected };

        assert_int_equal(event_watch(loop, &w, fd, EPOLLIN, NULL), 0);
        start(c, rows[i].url, 5000, &answers[i]);
        for (int n = 0; n < 1000 && answers[i].times == 0 && !connected; n++)
            assert_int_equal(event_loop_turn(loop, deadline_in(100), NULL), 0);
        event_unwatch(loop, &w);
        assert_int_equal(connected, rows[i].connects);
    }
}

static void test_without_a_bundle_there_is_no_client(void **state UNUSED)
{
    AUTO_EVENT_LOOP struct event_loop *loop = loop_of();
    const struct http_options o = { .connect_timeout_ms = 5000 };
    struct http_client *c = NULL;

    assert_int_equal(http_client_new(loop, &o, &c, NULL), -1);
    assert_null(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_key_log),
        cmocka_unit_test(test_a_resolver_that_hangs_holds_up_nobody),
        cmocka_unit_test(test_no_proxy_is_the_configuration_s_alone),
        cmocka_unit_test(test_plain_http_is_for_the_given_socket_alone),
        cmocka_unit_test(test_without_a_bundle_there_is_no_client),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}

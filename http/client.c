/* SPDX-License-Identifier: Apache-2.0 */
/* One client: a libcurl multi handle on the event loop. transfer.c has what a request is. */
#include "common/base.h"
#include "http/client.h"

#include "http/transfer.h"

#include "common/deadline.h"
#include "common/strbuf.h"
#include "common/wipe.h"

#include <openssl/crypto.h>

/* A socket of libcurl's, watched. */
struct socket_watch {
    struct http_client *client;
    struct event_watch watch;
};

static void *crypto_malloc(size_t n, const char *file UNUSED, int line UNUSED)
{
    return wipe_malloc(n);
}

static void *crypto_realloc(void *p, size_t n, const char *file UNUSED, int line UNUSED)
{
    return wipe_realloc(p, n);
}

static void crypto_free(void *p, const char *file UNUSED, int line UNUSED)
{
    wipe_free(p);
}

int http_global_init(struct error *err)
{
    /* libcurl would write the keys of every connection there. */
    if (unsetenv("SSLKEYLOGFILE") < 0)
        return error_set(err, ERR_INTERNAL, "SSLKEYLOGFILE can't be taken out of the environment");
    if (CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free) != 1)
        return error_set(err, ERR_INTERNAL, "libcrypto was used before its memory could be set");
    if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, wipe_malloc, wipe_free, wipe_realloc, wipe_strdup,
                             wipe_calloc) != CURLE_OK)
        return error_set(err, ERR_INTERNAL, "libcurl can't be initialised");
    return 0;
}

/* ---- finished transfers ---- */

/* Never from inside libcurl: `done` may start and cancel transfers. */
static void hand_out_finished(struct http_client *c)
{
    CURLMsg *m;
    int left;

    while ((m = curl_multi_info_read(c->multi, &left)) != NULL) {
        struct http_transfer *t = NULL;

        if (m->msg != CURLMSG_DONE)
            continue;
        (void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &t);
        transfer_finish(t, m->data.result);
    }
}

static void act(struct http_client *c, curl_socket_t fd, int events)
{
    int running;

    (void)curl_multi_socket_action(c->multi, fd, events, &running);
    hand_out_finished(c);
}

/* ---- sockets and the timer ---- */

static void on_socket(void *ctx, uint32_t events)
{
    const struct socket_watch *s = ctx;
    int what = 0;

    if ((events & EPOLLIN) != 0)
        what |= CURL_CSELECT_IN;
    if ((events & EPOLLOUT) != 0)
        what |= CURL_CSELECT_OUT;
    if ((events & (EPOLLERR | EPOLLHUP)) != 0)
        what |= CURL_CSELECT_ERR;
    act(s->client, s->watch.fd, what);
}

static void on_timer(void *ctx)
{
    act(ctx, CURL_SOCKET_TIMEOUT, 0);
}

static int set_timer(CURLM *multi UNUSED, long ms, void *ctx)
{
    struct http_client *c = ctx;

    if (ms < 0)
        event_timer_stop(c->loop, &c->timer);
    else
        event_timer_set(c->loop, &c->timer, deadline_in((uint64_t)ms));
    return 0;
}

static void forget_socket(struct http_client *c, curl_socket_t fd, struct socket_watch *s)
{
    if (s == NULL)
        return;
    event_unwatch(c->loop, &s->watch);
    (void)curl_multi_assign(c->multi, fd, NULL);
    free(s);
}

static int watch_socket(struct http_client *c, curl_socket_t fd, uint32_t events)
{
    struct error ignored = ERROR_INIT;
    AUTO_FREE struct socket_watch *s = calloc(1, sizeof(*s));

    if (s == NULL)
        return -1;
    s->client = c;
    s->watch = (struct event_watch){ .fd = -1, .ready = on_socket, .ctx = s };
    if (event_watch(c->loop, &s->watch, fd, events, &ignored) < 0)
        return -1;
    (void)curl_multi_assign(c->multi, fd, TAKE_PTR(s));
    return 0;
}

/* -1 makes every transfer fail; each is then told. */
static int set_socket(CURL *easy UNUSED, curl_socket_t fd, int what, void *ctx, void *socket_ctx)
{
    struct http_client *c = ctx;
    struct socket_watch *s = socket_ctx;
    struct error ignored = ERROR_INIT;
    uint32_t events = 0;

    if (what == CURL_POLL_REMOVE) {
        forget_socket(c, fd, s);
        return 0;
    }
    if ((what & CURL_POLL_IN) != 0)
        events |= EPOLLIN;
    if ((what & CURL_POLL_OUT) != 0)
        events |= EPOLLOUT;
    if (s == NULL)
        return watch_socket(c, fd, events);
    return event_watch_change(c->loop, &s->watch, events, &ignored);
}

/* ---- making and freeing ---- */

static int copy_options(struct http_client *c, const struct http_options *o, struct error *err)
{
    c->connect_timeout_ms = o->connect_timeout_ms;
    if (str_dup_opt(&c->ca_path, o->ca_path, err) < 0 ||
        str_dup_opt(&c->cert_path, o->cert_path, err) < 0 ||
        str_dup_opt(&c->key_path, o->key_path, err) < 0 ||
        str_dup_opt(&c->proxy, o->proxy, err) < 0 ||
        str_dup_opt(&c->unix_path, o->unix_path, err) < 0)
        return -1;
    return 0;
}

static int make_multi(struct http_client *c, struct error *err)
{
    c->multi = curl_multi_init();
    if (c->multi == NULL ||
        curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, set_socket) != CURLM_OK ||
        curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c) != CURLM_OK ||
        curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, set_timer) != CURLM_OK ||
        curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c) != CURLM_OK ||
        curl_multi_setopt(c->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)HTTP_CONNECTIONS) !=
            CURLM_OK ||
        curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)HTTP_CONNECTIONS) != CURLM_OK)
        return error_set(err, ERR_EXHAUSTED, "libcurl can't make a multi handle");
    return 0;
}

int http_client_new(struct event_loop *loop, const struct http_options *o, struct http_client **ret,
                    struct error *err)
{
    AUTO_HTTP_CLIENT struct http_client *c = calloc(1, sizeof(*c));

    if (c == NULL)
        return error_memory(err);
    c->loop = loop;
    c->timer = (struct event_timer){ .fire = on_timer, .ctx = c };
    if (o->ca_path == NULL && o->unix_path == NULL)
        return error_set(err, ERR_INVALID, "a CA bundle is needed");
    if (copy_options(c, o, err) < 0 || make_multi(c, err) < 0)
        return -1;
    *ret = TAKE_PTR(c);
    return 0;
}

void http_client_free(struct http_client *c)
{
    if (c == NULL)
        return;
    while (c->transfers != NULL)
        http_cancel(c->transfers);
    if (c->multi != NULL)
        (void)curl_multi_cleanup(c->multi); /* takes its sockets back through set_socket */
    event_timer_stop(c->loop, &c->timer);
    free(c->ca_path);
    free(c->cert_path);
    free(c->key_path);
    free(c->proxy);
    free(c->unix_path);
    free(c);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A token's life where its ends meet: what comes late is about another token than the present one.
 * HTTP and time are played; the logins are approle's. */
#include "common/base.h"
#include "vault/client.h"

#include "common/log.h"
#include "http/client.h"
#include "tests/support/nomem.h"
#include "tests/support/played_clock.h"
#include "tests/support/skip.h"
#include "tests/support/tmpdir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* ---- played: Vault ---- */

static struct {
    unsigned logins, revoked, renewals, asked; /* answered so far */
    unsigned good;                             /* the number of the token that is accepted */
    unsigned ttl_s;
    bool renewable;
    uint64_t login_ms, renew_ms; /* how long an answer takes */
} played;

struct http_transfer {
    struct event_loop *loop;
    struct event_timer timer;
    http_done done;
    void *ctx;
    char path[128];
    unsigned token;
};

struct http_client {
    struct event_loop *loop;
};

int http_global_init(struct error *err UNUSED)
{
    return 0;
}

int http_client_new(struct event_loop *loop, const struct http_options *o UNUSED,
                    struct http_client **ret, struct error *err UNUSED)
{
    *ret = calloc(1, sizeof(**ret));
    assert_non_null(*ret);
    (*ret)->loop = loop;
    return 0;
}

void http_client_free(struct http_client *c)
{
    free(c);
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n >= m && strcmp(text + n - m, end) == 0;
}

static void answer(const struct http_transfer *t, struct http_reply *r, char body[256])
{
    r->status = 200;
    if (ends_in(t->path, "/login")) {
        played.good = ++played.logins;
        (void)snprintf(
            body, 256,
            "{\"auth\":{\"client_token\":\"t%u\",\"lease_duration\":%u,\"renewable\":%s}}",
            played.good, played.ttl_s, played.renewable ? "true" : "false");
    } else if (t->token != played.good) {
        r->status = 403;
    } else if (ends_in(t->path, "/revoke-self")) {
        played.revoked++;
    } else if (ends_in(t->path, "/renew-self")) {
        played.renewals++;
        (void)snprintf(body, 256, "{\"auth\":{\"lease_duration\":%u}}", played.ttl_s);
    } else {
        played.asked++;
    }
}

static void on_played(void *ctx)
{
    struct http_transfer *t = ctx;
    struct http_reply reply = { .failure = HTTP_WHOLE, .problem = "", .location = "" };
    char body[256] = "";

    answer(t, &reply, body);
    reply.body = body;
    reply.body_len = strlen(body);
    t->done(t->ctx, &reply);
    free(t);
}

int http_start(struct http_client *c, const struct http_request *r, http_done done, void *ctx,
               struct http_transfer **ret, struct error *err UNUSED)
{
    struct http_transfer *t = calloc(1, sizeof(*t));

    assert_non_null(t);
    *t = (struct http_transfer){ .loop = c->loop, .done = done, .ctx = ctx };
    (void)snprintf(t->path, sizeof(t->path), "%s", r->url);
    for (size_t i = 0; i < HTTP_HEADERS_MAX && r->headers[i].name != NULL; i++) {
        if (strcmp(r->headers[i].name, "X-Vault-Token") == 0)
            t->token = (unsigned)strtoul(r->headers[i].value + 1, NULL, 10);
    }
    t->timer = (struct event_timer){ .fire = on_played, .ctx = t };
    event_timer_set(c->loop, &t->timer,
                    now + (ends_in(t->path, "/login")        ? played.login_ms
                           : ends_in(t->path, "/renew-self") ? played.renew_ms
                                                             : 1));
    *ret = t;
    return 0;
}

void http_cancel(struct http_transfer *t)
{
    if (t == NULL)
        return;
    event_timer_stop(t->loop, &t->timer);
    free(t);
}

/* ---- the client ---- */

struct world {
    struct tmpdir dir;
    struct event_loop *loop;
    struct vault *vault;
    struct error err; /* of the last answer */
    unsigned answers, stopped;
};

static void on_answer(void *ctx, const struct vault_answer *a)
{
    struct world *w = ctx;

    w->err = a->err;
    w->answers++;
}

static void on_stopped(void *ctx)
{
    ((struct world *)ctx)->stopped++;
}

static void pass(const struct world *w, uint64_t ms)
{
    for (uint64_t until = now + ms; now < until;)
        assert_int_equal(event_loop_turn(w->loop, until, NULL), 0);
}

static void ask(struct world *w)
{
    const struct vault_request r = { .method = "GET",
                                     .path = "transit/x",
                                     .deadline = deadline_in(30000) };

    vault_call(w->vault, &r, on_answer, w);
}

static enum error_code asked(struct world *w)
{
    unsigned before = w->answers;

    ask(w);
    for (int i = 0; i < 1000 && w->answers == before; i++)
        pass(w, 50);
    assert_int_equal(w->answers, before + 1);
    return w->err.code;
}

static int set_up(void **state)
{
    static struct world w;
    struct vault_options o = { .addresses = { "v:1" }, .ca_path = "/ca", .timeout_ms = 10000 };

    w = (struct world){ .dir = tmpdir_make() };
    now = 1000000;
    memset(&played, 0, sizeof(played));
    played.login_ms = played.renew_ms = 1;
    played.ttl_s = 90;
    tmpdir_write(&w.dir, "secret", "s", 1);
    o.auth = (struct vault_auth_options){ .method = "approle",
                                          .role = "r",
                                          .role_id = "i",
                                          .secret_id_path = tmpdir_path(&w.dir, "secret") };
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    *state = &w;
    return event_loop_new(&w.loop, NULL) | vault_new(w.loop, &o, &w.vault, NULL);
}

static int tear_down(void **state)
{
    struct world *w = *state;

    vault_free(w->vault);
    event_loop_free(w->loop);
    tmpdir_remove(&w->dir);
    return 0;
}

/* ---- the tests ---- */

static void test_a_late_renewal_is_not_the_next_token_s(void **state)
{
    struct world *w = *state;

    played.renewable = true;
    played.renew_ms = 8000;
    assert_int_equal(asked(w), ERR_OK);
    pass(w, 61000); /* the renewal is under way */
    played.good = 0;
    assert_int_equal(asked(w), ERR_OK); /* with another token */
    assert_int_equal(played.logins, 2);
    pass(w, 10000); /* the renewal is refused, for the first one */
    assert_int_equal(played.logins, 2);
    assert_int_equal(asked(w), ERR_OK);
    assert_int_equal(played.logins, 2);
}

static void test_one_login_at_a_time(void **state)
{
    struct world *w = *state;

    played.ttl_s = 3; /* can't be renewed: at 2 s another one is got */
    assert_int_equal(asked(w), ERR_OK);
    played.login_ms = 5000;
    played.ttl_s = 3000;
    pass(w, 4000);
    assert_int_equal(asked(w), ERR_OK); /* the first one is over */
    pass(w, 10000);
    assert_int_equal(played.logins, 2);
}

static void test_nothing_with_a_token_after_the_stop(void **state)
{
    struct world *w = *state;

    assert_int_equal(asked(w), ERR_OK);
    vault_stop(w->vault, on_stopped, w);
    assert_int_equal(asked(w), ERR_CANCELED);
    pass(w, 100);
    assert_int_equal(w->stopped, 1);
    assert_int_equal(played.revoked, 1);
    assert_int_equal(asked(w), ERR_CANCELED);
    pass(w, 10000);
    assert_int_equal(played.logins, 1);
}

static void test_the_stop_waits_for_a_login(void **state)
{
    struct world *w = *state;

    played.ttl_s = 3;
    assert_int_equal(asked(w), ERR_OK);
    played.login_ms = 1000;
    pass(w, 2500); /* the next one is being got */
    vault_stop(w->vault, on_stopped, w);
    pass(w, 2000);
    assert_int_equal(w->stopped, 1);
    assert_int_equal(played.logins, 2);
    assert_int_equal(played.revoked, 2);
}

static void test_the_stop_before_any_login(void **state)
{
    struct world *w = *state;

    played.login_ms = 1000;
    ask(w);
    vault_stop(w->vault, on_stopped, w);
    assert_int_equal(w->stopped, 0);
    pass(w, 2000);
    assert_int_equal(w->stopped, 1);
    assert_int_equal(played.revoked, 1);
    assert_int_equal(w->answers, 1);
    assert_int_equal(w->err.code, ERR_CANCELED);
}

static void on_guest(void *ctx, struct vault_guest *guest, const struct error *err)
{
    assert_null(guest);
    *(struct error *)ctx = *err;
}

/* A pod's token that no request could be made of isn't a bad one. */
static void test_guest_without_memory(void **state)
{
    const struct world *w = *state;
    const struct vault_guest_login login = {
        .mount = "kubernetes", .role = "pods", .jwt = "a.b.c", .deadline = DEADLINE_NEVER
    };

    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    for (unsigned n = 1; n <= 3; n++) {
        struct error err = ERROR_INIT;

        nomem_arm(n);
        vault_guest_start(w->vault, &login, on_guest, &err);
        assert_true(nomem_disarm());
        assert_true(error_is_memory(&err));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_late_renewal_is_not_the_next_token_s, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_one_login_at_a_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_with_a_token_after_the_stop, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_the_stop_waits_for_a_login, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_stop_before_any_login, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_guest_without_memory, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The token: got when the first request needs one, renewed at 2/3 of its time, replaced when it
 * can't be renewed, revoked when it is replaced or at the end. A refused login isn't repeated
 * before a pause: whoever asks in it gets the same answer.
 */
#include "common/base.h"
#include "vault/internal.h"

#include "common/deadline.h"
#include "common/leak.h"
#include "common/log.h"

#define HOLD_MIN_MS    1000u
#define HOLD_MAX_MS    30000u
#define RELOGIN_MS     5000u /* least time between two logins that a 403 leads to */
#define RENEW_AGAIN_MS 5000u
#define STOP_MS        TOKEN_REVOKE_MS

static void on_renew(void *ctx);

void token_init(struct vault *v)
{
    v->token.renew = (struct event_timer){ .fire = on_renew, .ctx = v };
}

void token_release(struct vault *v)
{
    event_timer_stop(v->loop, &v->token.renew);
    wipe_buffer_release(&v->token.text);
}

/* ---- those who wait ---- */

static void wake(struct vault *v, const struct error *err)
{
    struct call *c = v->token.waiters;

    v->token.waiters = NULL;
    while (c != NULL) {
        struct call *next = *call_waiter_link(c);
        *call_waiter_link(c) = NULL;
        call_token_ready(c, err);
        c = next;
    }
}

void token_forget(struct vault *v, struct call *c)
{
    for (struct call **p = &v->token.waiters; *p != NULL; p = call_waiter_link(*p)) {
        if (*p == c) {
            *p = *call_waiter_link(c);
            *call_waiter_link(c) = NULL;
            return;
        }
    }
}

/* Nothing when one is under way: its end is everybody's. */
static void login(struct vault *v)
{
    if (v->token.busy || v->stopping)
        return;
    v->token.busy = true;
    v->counters.logins++;
    v->method->login(v);
}

enum token_answer token_get(struct vault *v, struct call *c, struct error *err)
{
    struct token *t = &v->token;

    if (t->state == TOKEN_READY && clock_ms() < t->expires_at)
        return TOKEN_HERE;
    if (t->state != TOKEN_LOGIN && clock_ms() < t->refused_until) {
        (void)error_pass(err, &t->refusal);
        return TOKEN_REFUSED;
    }
    *call_waiter_link(c) = t->waiters;
    t->waiters = c;
    if (t->state != TOKEN_LOGIN) {
        t->state = TOKEN_LOGIN;
        login(v); /* may end at once, and with it the call */
    }
    return TOKEN_WAIT;
}

/* Only when vault_stop waits for it. */
static void stopped(struct vault *v)
{
    void (*done)(void *ctx) = v->stopped;

    if (done == NULL)
        return;
    event_timer_stop(v->loop, &v->stop_timer);
    v->stopped = NULL;
    done(v->stopped_ctx);
}

/* ---- revoking ---- */

static void on_last_revoked(void *ctx, const struct vault_answer *answer);

static void on_revoked(void *ctx UNUSED, const struct vault_answer *answer UNUSED)
{
}

/* The token that is replaced may live for hours. That it is refused, or a kind that can't be
 * revoked, is no matter. */
static void revoke_token(struct vault *v, vault_done done)
{
    const struct token *t = &v->token;
    const struct vault_request r = { .method = "POST",
                                     .path = "auth/token/revoke-self",
                                     .deadline = deadline_in(STOP_MS) };

    call_start(v, &r, CALL_TOKEN_GIVEN, t->text.bytes, done, v);
}

/* For vault_stop: does nothing hold a token any more? */
static void check_stopped(struct vault *v)
{
    if (!v->token.busy && v->revoking == 0)
        stopped(v);
}

/* For vault_stop; the end of a login that is under way comes here once more. */
static void give_back(struct vault *v)
{
    struct token *t = &v->token;
    bool revocable = t->ours && t->text.bytes != NULL;

    t->ours = false;
    if (revocable) {
        v->revoking++;
        revoke_token(v, on_last_revoked);
    }
    check_stopped(v);
}

void token_given_back(struct vault *v)
{
    v->revoking--;
    check_stopped(v);
}

static void put(struct vault *v, struct wipe_buffer *text, uint64_t ttl_s, bool renewable,
                bool ours)
{
    struct token *t = &v->token;

    t->busy = false;
    if (t->ours && t->text.bytes != NULL)
        revoke_token(v, on_revoked);
    wipe_buffer_release(&t->text);
    t->text = *text;
    *text = (struct wipe_buffer)WIPE_BUFFER_INIT;
    LEAK("keyd:vault-token", t->text.bytes, t->text.len);
    t->ours = ours;
    t->renewable = renewable;
    t->generation++;
    t->since = clock_ms();
    t->ttl_ms = ttl_s * 1000;
    t->expires_at = ttl_s == 0 ? DEADLINE_NEVER : t->since + t->ttl_ms;
    t->state = TOKEN_READY;
    t->refusals = 0;
    t->refused_until = 0;
    if (!v->stopping)
        event_timer_set(v->loop, &t->renew,
                        ttl_s == 0 ? DEADLINE_NEVER : t->since + t->ttl_ms * 2 / 3);
    log_info("logged in to Vault", KV("method", v->method->name), KV("ttl_s", ttl_s),
             KV("renewable", renewable));
    if (v->stopping)
        give_back(v);
    wake(v, NULL);
}

void token_take(struct vault *v, const json_t *auth)
{
    AUTO_WIPE_BUFFER struct wipe_buffer text = WIPE_BUFFER_INIT;
    struct error err = ERROR_INIT;
    const char *token = json_string_value(json_object_get(auth, "client_token"));
    json_int_t ttl = json_integer_value(json_object_get(auth, "lease_duration"));

    if (token == NULL || token[0] == '\0' || ttl < 0 || ttl > INT32_MAX ||
        wipe_buffer_add(&text, token, strlen(token), KIB(8)) < 0) {
        (void)error_set(&err, ERR_UNAVAILABLE, "Vault's answer to a login holds no token");
        token_fail(v, &err);
        return;
    }
    put(v, &text, (uint64_t)ttl, json_is_true(json_object_get(auth, "renewable")), true);
}

void token_take_given(struct vault *v, struct wipe_buffer *text, uint64_t ttl_s, bool renewable)
{
    put(v, text, ttl_s, renewable, false);
}

/* ---- failing ---- */

static void hold(struct token *t, const struct error *err)
{
    uint64_t ms = HOLD_MIN_MS;

    for (unsigned i = 0; i < t->refusals && ms < HOLD_MAX_MS; i++)
        ms *= 2;
    t->refusals++;
    t->refusal = *err;
    t->refused_until = deadline_in(ms < HOLD_MAX_MS ? ms : HOLD_MAX_MS);
}

void token_fail(struct vault *v, const struct error *why)
{
    struct token *t = &v->token;
    struct error own = *why, *err = &own;

    t->busy = false;
    v->counters.logins_failed++;
    if (err->code != ERR_CANCELED)
        log_warn("login to Vault failed", KV("method", v->method->name), KV("reason", err->msg));
    /* The login's time was over, not that of those who wait for it. */
    if (err->code == ERR_DEADLINE)
        (void)error_recode(err, ERR_UNAVAILABLE);
    /* Vault that doesn't answer is asked again at once: the breaker does the sparing. And what
     * lacked here was no word of Vault's. */
    if (err->code != ERR_UNAVAILABLE && err->code != ERR_EXHAUSTED)
        hold(t, err);
    if (t->state == TOKEN_READY && !v->stopping) {
        event_timer_set(v->loop, &t->renew, deadline_in(RENEW_AGAIN_MS));
        return;
    }
    t->state = TOKEN_NONE;
    wake(v, err);
    if (v->stopping)
        give_back(v);
}

bool token_refused(struct vault *v, uint64_t generation)
{
    struct token *t = &v->token;

    if (t->state != TOKEN_READY || t->generation != generation)
        return true; /* it was replaced meanwhile */
    if (clock_ms() < t->relogin_at)
        return false;
    t->relogin_at = deadline_in(RELOGIN_MS);
    t->state = TOKEN_NONE;
    event_timer_stop(v->loop, &t->renew);
    return true;
}

/* ---- renewing ---- */

/* A token near the end of its longest life is given less each time: then another one is better. */
static void renewed(struct vault *v, json_int_t ttl_s)
{
    struct token *t = &v->token;

    v->counters.renewals++;
    t->expires_at = deadline_in((uint64_t)ttl_s * 1000);
    if ((uint64_t)ttl_s * 1000 < t->ttl_ms / 2) {
        login(v);
        return;
    }
    event_timer_set(v->loop, &t->renew, deadline_in((uint64_t)ttl_s * 1000 * 2 / 3));
}

static void on_renewed(void *ctx, const struct vault_answer *answer)
{
    struct vault *v = ctx;
    struct token *t = &v->token;
    const json_t *auth = json_object_get(answer->body, "auth");
    json_int_t ttl = json_integer_value(json_object_get(auth, "lease_duration"));

    if (t->state != TOKEN_READY || t->renewing != t->generation || v->stopping)
        return; /* refused meanwhile, or replaced */
    if (answer->err.code == ERR_OK && ttl > 0 && ttl <= INT32_MAX) {
        renewed(v, ttl);
        return;
    }
    if (answer->err.code == ERR_UNAVAILABLE || answer->err.code == ERR_DEADLINE)
        event_timer_set(v->loop, &t->renew, deadline_in(RENEW_AGAIN_MS));
    else
        login(v);
}

static void on_renew(void *ctx)
{
    struct vault *v = ctx;
    struct token *t = &v->token;
    const struct vault_request r = { .method = "POST",
                                     .path = "auth/token/renew-self",
                                     .deadline = auth_deadline() };

    if (t->state != TOKEN_READY)
        return;
    if (!t->renewable) {
        login(v);
        return;
    }
    t->renewing = t->generation;
    call_start(v, &r, CALL_TOKEN_GIVEN, t->text.bytes, on_renewed, v);
}

/* ---- the end ---- */

static void on_stop_timer(void *ctx)
{
    stopped(ctx);
}

static void on_last_revoked(void *ctx, const struct vault_answer *answer)
{
    struct vault *v = ctx;

    if (answer->err.code != ERR_OK)
        log_warn("the token could not be revoked", KV("reason", answer->err.msg));
    token_given_back(v);
}

void vault_stop(struct vault *v, void (*done)(void *ctx), void *ctx)
{
    struct token *t = &v->token;

    v->stopping = true;
    v->stopped = done;
    v->stopped_ctx = ctx;
    event_timer_stop(v->loop, &t->renew);
    v->stop_timer = (struct event_timer){ .fire = on_stop_timer, .ctx = v };
    event_timer_set(v->loop, &v->stop_timer, deadline_in(STOP_MS));
    give_back(v);
}

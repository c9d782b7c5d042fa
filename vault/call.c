/* SPDX-License-Identifier: Apache-2.0 */
/* One request: token, attempt, pause, next attempt, until there is a result or no time is left. */
#include "common/base.h"
#include "vault/internal.h"

#include "common/deadline.h"
#include "common/json.h"
#include "common/strbuf.h"
#include "vault/status.h"

#define ATTEMPTS 3u    /* and one for each further address */
#define FAIR_MS  1000u /* a server that doesn't answer within less may be well */
#define BODY_MAX KIB(64)

struct call {
    struct vault *v;
    struct call *prev, *next;
    struct call *next_waiter; /* token.c's */
    const char *method;
    char path[VAULT_PATH_MAX + 1];
    struct wipe_buffer body;
    enum call_token token;
    struct wipe_buffer given;
    uint64_t generation; /* of the token it went out with */
    uint64_t deadline;
    vault_done done;
    void *ctx;
    uint64_t sent_us; /* the attempt under way */
    unsigned attempts;
    size_t address;
    bool logged_in, redirected, probe;
    bool hurried;      /* the attempt had less time than is fair */
    char wrap_ttl[16]; /* "" = not wrapped */
    long status;
    const char *reason; /* a constant */
    struct http_transfer *transfer;
    struct event_timer pause;
};

static void step(struct call *c);

/* ---- the end ---- */

static void call_free(struct call *c)
{
    struct vault *v = c->v;

    event_timer_stop(v->loop, &c->pause);
    http_cancel(c->transfer);
    token_forget(v, c);
    if (c->prev != NULL)
        c->prev->next = c->next;
    else if (v->calls == c)
        v->calls = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    wipe_buffer_release(&c->body);
    wipe_buffer_release(&c->given);
    free(c);
}

static void finish(struct call *c, const struct error *err, const json_t *body)
{
    struct vault_answer answer = {
        .err = *err,
        .status = c->status,
        .reason = c->reason,
        .token = c->generation,
        .body = body,
    };
    vault_done done = c->done;
    void *ctx = c->ctx;

    if (err->code != ERR_OK)
        c->v->counters.failed++;
    call_free(c);
    done(ctx, &answer);
}

static void fail(struct call *c, enum error_code code, const char *what, const char *reason)
{
    struct error err = ERROR_INIT;

    (void)error_set(&err, code, "Vault (%s) %.*s: %s%s%s", c->v->addresses[c->address],
                    (int)strcspn(c->path, "?"), c->path, what, reason[0] == '\0' ? "" : ": ",
                    reason);
    finish(c, &err, NULL);
}

/* ---- once more ---- */

/* Also while it waits for a login: then its deadline has come. */
static void on_pause_over(void *ctx)
{
    struct call *c = ctx;

    token_forget(c->v, c);
    step(c);
}

/* Ends the call with `code` when there is no time or no attempt left. */
static void again(struct call *c, bool next_address, uint64_t wait_ms, enum error_code code,
                  const char *what, const char *reason)
{
    struct vault *v = c->v;
    uint64_t pause = backoff_ms(++c->attempts, vault_jitter());
    size_t next = (c->address + 1) % v->n_addresses;

    if (wait_ms > pause)
        pause = wait_ms;
    if (next_address && v->address == c->address)
        v->address = next; /* who starts now needn't meet this one, even if no time is left here */
    if (deadline_left(c->deadline) == 0)
        code = ERR_DEADLINE;
    if (c->attempts >= ATTEMPTS + v->n_addresses - 1 || pause >= deadline_left(c->deadline)) {
        fail(c, code, what, reason);
        return;
    }
    if (next_address)
        c->address = next;
    event_timer_set(v->loop, &c->pause, deadline_in(pause));
}

/* ---- a reply ---- */

static const char *const failure_texts[] = {
    [HTTP_WHOLE] = "",
    [HTTP_CONNECT] = "no connection",
    [HTTP_TLS] = "no TLS connection that can be trusted",
    [HTTP_TIMEOUT] = "no answer in time",
    [HTTP_CUT] = "the connection was cut",
    [HTTP_TOO_BIG] = "the answer is too long",
};

static void on_broken(struct call *c, const struct http_reply *reply)
{
    if (c->hurried && reply->failure == HTTP_TIMEOUT)
        breaker_forget(&c->v->breaker);
    else
        breaker_failure(&c->v->breaker, clock_ms(), vault_jitter());
    again(c, true, 0, ERR_UNAVAILABLE, failure_texts[reply->failure], reply->problem);
}

/* Result or refusal: its JSON decides. */
static void take(struct call *c, const struct http_reply *reply)
{
    struct error err = ERROR_INIT, malformed = ERROR_INIT;
    AUTO_JSON json_t *body = NULL;

    if (reply->body_len > 0 &&
        json_parse(reply->body, reply->body_len, "the answer", &body, &malformed) < 0) {
        again(c, true, 0, ERR_UNAVAILABLE, "no answer of a Vault", malformed.msg);
        return;
    }
    c->v->address = c->address;
    finish(c, &err, body);
}

static void refuse(struct call *c, const struct vault_status *s, const struct http_reply *reply)
{
    char what[160];

    (void)snprintf(what, sizeof(what), "%ld, %s", c->status, s->meaning);
    c->reason = vault_reason_of(reply->body);
    if (strcmp(c->reason, VAULT_REASON_UPGRADE) == 0)
        again(c, false, 0, ERR_UNAVAILABLE, what, c->reason);
    else
        fail(c, s->code, what, c->reason);
}

/* To an address of the configuration only: the token goes along. */
static bool follow(struct call *c, const char *location)
{
    const struct vault *v = c->v;

    for (size_t i = 0; i < v->n_addresses; i++) {
        size_t len = strlen(v->addresses[i]);
        if (strncmp(location, "https://", 8) == 0 &&
            strncmp(location + 8, v->addresses[i], len) == 0 && location[8 + len] == '/') {
            c->address = i;
            return true;
        }
    }
    return false;
}

static void redirect(struct call *c, const struct vault_status *s, const struct http_reply *reply)
{
    if (c->redirected || !follow(c, reply->location)) {
        again(c, true, 0, s->code, s->meaning,
              c->redirected ? "once more" : "which is none of the configuration's addresses");
        return;
    }
    c->redirected = true;
    step(c);
}

static void login_again(struct call *c, const struct vault_status *s,
                        const struct http_reply *reply)
{
    if (c->token != CALL_TOKEN_OWN || c->logged_in || c->probe ||
        !token_refused(c->v, c->generation)) {
        refuse(c, s, reply);
        return;
    }
    c->logged_in = true;
    step(c);
}

static void on_whole(struct call *c, const struct vault_status *s, const struct http_reply *reply)
{
    char what[160];

    switch (s->action) {
    case VAULT_TAKE:
        take(c, reply);
        return;
    case VAULT_REFUSED:
        refuse(c, s, reply);
        return;
    case VAULT_LOGIN:
        login_again(c, s, reply);
        return;
    case VAULT_REDIRECT:
        redirect(c, s, reply);
        return;
    case VAULT_AGAIN:
    case VAULT_NEXT:
        break;
    }
    (void)snprintf(what, sizeof(what), "%ld, %s", c->status, s->meaning);
    again(c, s->action == VAULT_NEXT, reply->retry_after_ms, s->code, what,
          vault_reason_of(reply->body));
}

/* Vault 1.13 and its like refuse an approle login by 500, and all of them what an RSA key doesn't
 * decrypt: asking once more changes neither. */
static const struct vault_status *judge(const struct http_reply *reply)
{
    const char *reason = vault_reason_of(reply->body);
    bool refused =
        strcmp(reason, VAULT_REASON_LOGIN) == 0 || strcmp(reason, VAULT_REASON_SEALED) == 0;

    return vault_status_of(reply->status == 500 && refused ? 400 : reply->status);
}

static void count_reply(const struct call *c, const struct http_reply *reply)
{
    struct vault_counters *n = &c->v->counters;
    long digit = reply->failure == HTTP_WHOLE ? reply->status / 100 : 0;

    n->replies[digit > 0 && digit < VAULT_REPLIES ? digit : 0]++;
    histogram_add(&n->took, clock_us() - c->sent_us);
}

static void on_reply(void *ctx, const struct http_reply *reply)
{
    struct call *c = ctx;
    struct breaker *b = &c->v->breaker;

    c->transfer = NULL;
    c->status = reply->status;
    count_reply(c, reply);
    if (reply->failure != HTTP_WHOLE) {
        on_broken(c, reply);
        return;
    }
    const struct vault_status *s = judge(reply);
    /* A server that refuses is there; one that is sealed or ill had better be left alone. */
    if (s->action == VAULT_NEXT || (s->action == VAULT_AGAIN && reply->status >= 500))
        breaker_failure(b, clock_ms(), vault_jitter());
    else
        breaker_success(b);
    on_whole(c, s, reply);
}

/* ---- an attempt ---- */

static const char *token_of(const struct call *c)
{
    if (c->token == CALL_TOKEN_NONE)
        return NULL;
    return c->token == CALL_TOKEN_GIVEN ? c->given.bytes : c->v->token.text.bytes;
}

static void add_header(struct http_request *r, const char *name, const char *value)
{
    size_t i = 0;

    while (i < HTTP_HEADERS_MAX - 1 && r->headers[i].name != NULL)
        i++;
    if (value != NULL)
        r->headers[i] = (struct http_header){ .name = name, .value = value };
}

static void send_request(struct call *c)
{
    struct vault *v = c->v;
    struct error err = ERROR_INIT;
    uint64_t limit = deadline_in(v->timeout_ms);
    char url[VAULT_PATH_MAX + 400];

    (void)snprintf(url, sizeof(url), "https://%.300s/v1/%s", v->addresses[c->address], c->path);
    struct http_request r = { .method = c->method,
                              .url = url,
                              .body = c->body.bytes,
                              .body_len = c->body.len,
                              .deadline = limit < c->deadline ? limit : c->deadline };
    c->hurried = r.deadline < limit && deadline_left(r.deadline) < FAIR_MS;
    add_header(&r, "X-Vault-Request", "true");
    add_header(&r, "X-Vault-Namespace", v->name_space);
    add_header(&r, "X-Vault-Token", token_of(c));
    add_header(&r, "X-Vault-Wrap-TTL", c->wrap_ttl[0] == '\0' ? NULL : c->wrap_ttl);
    add_header(&r, "Content-Type", c->body.bytes == NULL ? NULL : "application/json");
    v->counters.requests++;
    c->sent_us = clock_us();
    if (http_start(v->http, &r, on_reply, c, &c->transfer, &err) < 0) {
        breaker_forget(&v->breaker);
        fail(c, err.code, err.msg, "");
    }
}

/* False: it waits for a login, or ended; it may be gone. */
static bool has_token(struct call *c)
{
    struct vault *v = c->v;
    struct error err = ERROR_INIT;

    event_timer_set(v->loop, &c->pause, c->deadline);
    enum token_answer answer = token_get(v, c, &err);
    if (answer == TOKEN_REFUSED)
        finish(c, &err, NULL);
    if (answer != TOKEN_HERE)
        return false;
    event_timer_stop(v->loop, &c->pause);
    c->generation = v->token.generation;
    return true;
}

static void step(struct call *c)
{
    struct vault *v = c->v;

    if (v->closing || (v->stopping && c->token == CALL_TOKEN_OWN)) {
        fail(c, ERR_CANCELED, "this process ends", "");
        return;
    }
    if (deadline_left(c->deadline) == 0) {
        fail(c, ERR_DEADLINE, "no time is left", "");
        return;
    }
    if (c->token == CALL_TOKEN_OWN && !has_token(c))
        return;
    if (c->attempts == 0 && !c->redirected)
        c->address = v->address; /* a login may have found that another one answers */
    if (!breaker_allow(&v->breaker, clock_ms())) {
        fail(c, ERR_UNAVAILABLE, "it didn't answer several times in a row",
             "it is asked again after a pause");
        return;
    }
    send_request(c);
}

void call_token_ready(struct call *c, const struct error *err)
{
    event_timer_stop(c->v->loop, &c->pause);
    if (err != NULL)
        finish(c, err, NULL);
    else
        step(c);
}

void call_cancel_all(struct vault *v)
{
    v->closing = true;
    while (v->calls != NULL)
        fail(v->calls, ERR_CANCELED, "this process ends", "");
}

struct call **call_waiter_link(struct call *c)
{
    return &c->next_waiter;
}

/* ---- the start ---- */

static int encode_body(const json_t *body, struct wipe_buffer *ret, struct error *err)
{
    if (body == NULL)
        return 0;
    char *text = json_text(body, JSON_COMPACT);
    if (text == NULL)
        return error_memory(err);
    int r = wipe_buffer_add(ret, text, strlen(text), BODY_MAX);
    wipe_free(text);
    return r < 0 ? error_set(err, ERR_EXHAUSTED, "a request to Vault is too long") : 0;
}

static int fill(struct call *c, const struct vault_request *r, const char *given, struct error *err)
{
    if (str_copy(c->path, sizeof(c->path), r->path) < 0)
        return error_set(err, ERR_INVALID, "a path in Vault is longer than %u bytes",
                         VAULT_PATH_MAX);
    if (r->wrap_ttl_s > 0)
        (void)snprintf(c->wrap_ttl, sizeof(c->wrap_ttl), "%us", r->wrap_ttl_s);
    if (given != NULL && wipe_buffer_add(&c->given, given, strlen(given), BODY_MAX) < 0)
        return error_memory(err);
    return encode_body(r->body, &c->body, err);
}

static void enter(struct call *c)
{
    struct vault *v = c->v;

    c->next = v->calls;
    if (c->next != NULL)
        c->next->prev = c;
    v->calls = c;
}

void call_start(struct vault *v, const struct vault_request *r, enum call_token token,
                const char *given, vault_done done, void *ctx)
{
    struct vault_answer failed = { .err = ERROR_INIT, .reason = "" };
    struct call *c = calloc(1, sizeof(*c));

    if (c == NULL) {
        (void)error_memory(&failed.err);
        done(ctx, &failed);
        return;
    }
    *c = (struct call){ .v = v,
                        .method = r->method,
                        .token = token,
                        .deadline = r->deadline,
                        .done = done,
                        .ctx = ctx,
                        .address = v->address,
                        .probe = r->probe,
                        .reason = "" };
    c->pause = (struct event_timer){ .fire = on_pause_over, .ctx = c };
    enter(c);
    if (fill(c, r, given, &failed.err) < 0) {
        finish(c, &failed.err, NULL);
        return;
    }
    step(c);
}

void vault_call(struct vault *v, const struct vault_request *r, vault_done done, void *ctx)
{
    call_start(v, r, r->anonymous ? CALL_TOKEN_NONE : CALL_TOKEN_OWN, NULL, done, ctx);
}

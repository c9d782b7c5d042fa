/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault/internal.h: inside vault/: a client's parts. call.c sends requests, token.c keeps the
 * token, auth*.c get one.
 */
#ifndef COFFER_VAULT_INTERNAL_H
#define COFFER_VAULT_INTERNAL_H

#include "common/wipe.h"
#include "http/client.h"
#include "vault/breaker.h"
#include "vault/client.h"

#define CREDENTIAL_MAX KIB(8)

struct call; /* one vault_call: call.c */

enum token_state {
    TOKEN_NONE,
    TOKEN_LOGIN, /* a login is under way */
    TOKEN_READY, /* perhaps with a renewal, or a login for the next one, under way */
};

struct token {
    enum token_state state;
    struct wipe_buffer text;
    uint64_t generation; /* counts the tokens: which one a request went out with */
    uint64_t renewing;   /* which one the renewal under way is for */
    uint64_t since, ttl_ms, expires_at;
    bool renewable, ours;     /* ours: a login made it, so we revoke it */
    uint64_t relogin_at;      /* before that, no 403 leads to a login */
    bool busy;                /* a login is under way: one at a time, whatever the state */
    struct event_timer renew; /* at 2/3 of its time */
    struct call *waiters;     /* for the login under way */
    struct error refusal;     /* why the last login failed; while now < refused_until */
    uint64_t refused_until;
    unsigned refusals; /* in a row */
};

struct vault_counters {
    uint64_t requests, failed, logins, logins_failed, renewals, guests, guests_failed;
    uint64_t replies[VAULT_REPLIES]; /* of attempts, by the status's first digit; 0: no whole one */
    struct histogram took;           /* attempts, the connection's making included */
};

struct auth_method;

struct vault {
    struct event_loop *loop;
    struct http_client *http;
    char *addresses[VAULT_ADDRESSES_MAX];
    size_t n_addresses, address; /* the one that answered last */
    char *name_space;
    uint64_t timeout_ms;
    const struct auth_method *method;
    struct {
        char *mount, *role, *token_path, *role_id, *secret_id_path;
        bool secret_id_wrapped;
        struct wipe_buffer secret_id; /* unwrapped: its wrapping token can't be used again */
        struct wipe_buffer shown;     /* of the file: the last one that was logged in with */
        uint64_t shown_at;
        bool in_vain;             /* the last login was refused for the credential itself */
        struct wipe_buffer token; /* method token */
    } auth;
    struct breaker breaker;
    struct token token;
    struct call *calls;
    bool stopping; /* no request with the token, no login */
    bool closing;  /* nothing is sent any more */
    struct vault_counters counters;
    unsigned revoking; /* tokens that are being given back, for vault_stop to wait for */
    struct event_timer stop_timer;
    void (*stopped)(void *ctx);
    void *stopped_ctx;
};

/* ---- call.c ---- */

/* Which token a request carries. */
enum call_token { CALL_TOKEN_OWN, CALL_TOKEN_NONE, CALL_TOKEN_GIVEN };

void call_start(struct vault *v, const struct vault_request *r, enum call_token token,
                const char *given, vault_done done, void *ctx);
/* token.c: the login ended; err NULL: with a token. Takes it off the waiters. */
void call_token_ready(struct call *c, const struct error *err);
/* The link of token.c's list of those that wait. */
struct call **call_waiter_link(struct call *c);
void call_cancel_all(struct vault *v); /* each ends with ERR_CANCELED; for good */

/* ---- token.c ---- */

enum token_answer { TOKEN_HERE, TOKEN_WAIT, TOKEN_REFUSED };

/* TOKEN_WAIT: call_token_ready will be called. */
enum token_answer token_get(struct vault *v, struct call *c, struct error *err);
void token_forget(struct vault *v, struct call *c); /* it doesn't wait any more */
/* 403 to a request with that token. True: another one is worth a try. */
bool token_refused(struct vault *v, uint64_t generation);
/* The login ended; auth: the "auth" object of its reply. */
void token_take(struct vault *v, const json_t *auth);
/* A token that isn't ours to revoke; takes *text. ttl_s 0: it doesn't expire. */
void token_take_given(struct vault *v, struct wipe_buffer *text, uint64_t ttl_s, bool renewable);
void token_fail(struct vault *v, const struct error *why);
/* One of v->revoking was given back: vault_stop may be over. */
void token_given_back(struct vault *v);
#define TOKEN_REVOKE_MS 3000u
void token_init(struct vault *v);
void token_release(struct vault *v);

/* ---- auth.c ---- */

struct auth_method {
    const char *name, *mount;
    bool needs_role, needs_token_path, needs_role_id, needs_cert, needs_token;
    void (*login)(struct vault *v); /* ends in token_take or token_fail, perhaps at once */
};

const struct auth_method *auth_method_find(const char *name);
int auth_check(const struct auth_method *m, const struct vault_options *o,
               struct error *err) MUST_CHECK;
/* A small text file without the line end at its end; ERR_UNAVAILABLE names the path. */
int auth_read_file(const char *path, struct wipe_buffer *ret, struct error *err) MUST_CHECK;
/* POST auth/<mount>/login with `body` (taken); the reply goes to token_take or token_fail. */
void auth_login(struct vault *v, json_t *body);
uint64_t auth_deadline(void);

void auth_jwt_login(struct vault *v);
void auth_approle_login(struct vault *v);
void auth_cert_login(struct vault *v);
void auth_token_file_login(struct vault *v);
void auth_token_login(struct vault *v);

uint32_t vault_jitter(void);

#endif

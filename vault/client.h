/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault/client.h: Vault's HTTP API (HashiCorp Vault, OpenBao) over TLS, on an event loop. One
 * `struct vault` is one identity at one cluster: it logs in when the first request needs it, keeps
 * the token, renews it at 2/3 of its time, logs in once more when it is refused, and revokes it at
 * the end. One thread (the loop's).
 *
 * A request is repeated, inside its deadline, when the server couldn't answer: after a pause
 * (vault/breaker.h), at the next address. What a server says in "errors" is never shown: our own
 * words for it are (vault/status.h). No token, body or header is ever part of an error.
 */
#ifndef COFFER_VAULT_CLIENT_H
#define COFFER_VAULT_CLIENT_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "common/event.h"
#include "common/metrics.h"

#include <jansson.h>

#define VAULT_ADDRESSES_MAX 8
#define VAULT_PATH_MAX      511u /* of an API path, without "v1/" */

struct vault; /* opaque */

struct vault_auth_options { /* which fields a method needs: vault/auth.c */
    const char *method;     /* "kubernetes", "jwt", "approle", "cert", "token-file", "token" */
    const char *mount;      /* NULL: the method's usual name */
    const char *role;
    const char *token_path; /* kubernetes, jwt: the service account's; token-file: Vault's own */
    const char *role_id, *secret_id_path;
    bool secret_id_wrapped; /* the file holds a wrapping token of the role's secret-id path */
    const char *token;      /* token: itself, which somebody typed; copied, wiped */
};

struct vault_options {                                  /* copied */
    const char *addresses[VAULT_ADDRESSES_MAX];         /* "host:port", up to the first NULL */
    const char *name_space;                             /* NULL: none */
    const char *ca_path, *cert_path, *key_path, *proxy; /* http/client.h */
    struct vault_auth_options auth;
    uint64_t timeout_ms; /* of one attempt */
};

struct vault_request {   /* borrowed until vault_call returns */
    const char *method;  /* "GET", "POST", "DELETE"; a constant */
    const char *path;    /* "transit/decrypt/x" */
    const json_t *body;  /* NULL: none */
    uint64_t deadline;   /* clock_ms() value */
    bool probe;          /* a refusal is what is hoped for: 403 is final, and leads to no login */
    bool anonymous;      /* without a token, so without a login: sys/health */
    unsigned wrap_ttl_s; /* not 0: the result stays there, the answer is a token to fetch it with */
};

struct vault_answer {   /* borrowed until the callback returns */
    struct error err;   /* ERR_OK: a result came */
    long status;        /* of the last whole reply; 0: none came */
    const char *reason; /* of a refusal: "" or one of vault/status.h's */
    uint64_t token;     /* counts the tokens: which one the last attempt went out with */
    const json_t *body; /* the result; NULL: it has none */
};

typedef void (*vault_done)(void *ctx, const struct vault_answer *answer);

/* Once in a process, before any thread and before libcrypto is used: it and libcurl then wipe their
 * memory. */
int vault_global_init(struct error *err) MUST_CHECK;

/* ERR_INVALID names the option that is wrong or missing. Sends nothing. */
int vault_new(struct event_loop *loop, const struct vault_options *o, struct vault **ret,
              struct error *err) MUST_CHECK;
/* Requests under way end with ERR_CANCELED. Not from a callback. */
void vault_free(struct vault *v);

/* `done` is called exactly once, perhaps before this returns. */
void vault_call(struct vault *v, const struct vault_request *r, vault_done done, void *ctx);

/* The number of the token that the next request goes out with, as in an answer; 0: there is none,
 * so that it begins with a login. */
uint64_t vault_token_number(const struct vault *v);

/* ---- a login of somebody else's ---- */

/* One JWT (a pod's service account token), one token of Vault's from it, a few requests with it,
 * and it is revoked. Nothing of the identity of `struct vault` takes part but addresses and TLS. */
struct vault_guest; /* opaque */

struct vault_guest_login {    /* borrowed until vault_guest_start returns */
    const char *mount, *role; /* of a login method that takes role and jwt: kubernetes, jwt */
    const char *jwt;          /* NUL-terminated */
    uint64_t deadline;
};

/* `done` is called exactly once, perhaps before this returns: guest NULL: err says why (a refused
 * login is ERR_PERMISSION). The guest is its receiver's, to be ended. */
void vault_guest_start(struct vault *v, const struct vault_guest_login *login,
                       void (*done)(void *ctx, struct vault_guest *guest, const struct error *err),
                       void *ctx);
/* As vault_call, with the guest's token. A refusal is final: there is no other token. */
void vault_guest_call(struct vault_guest *s, const struct vault_request *r, vault_done done,
                      void *ctx);
/* Revokes its token, behind the caller's back and at most for 3 s, and frees it; NULL is fine. No
 * call of it may be under way. vault_stop waits for it. */
void vault_guest_end(struct vault_guest *s);

/* Revokes the token, if one was got by a login; `done` is called once, within 3 s. No call after
 * it. */
void vault_stop(struct vault *v, void (*done)(void *ctx), void *ctx);

#define VAULT_REPLIES 6

struct vault_stats { /* for /metrics; borrowed until the next call of anything here */
    uint64_t failed, logins, logins_failed, renewals; /* logins: begun */
    uint64_t guests, guests_failed;                   /* the same of vault_guest_start */
    const uint64_t *replies; /* VAULT_REPLIES attempts, by the first digit of the status; [0]: none
                                came */
    struct histogram *took;
    bool has_token, expires;
    uint64_t token_age_ms, token_left_ms;
    const char *breaker; /* one of breaker_states (vault/breaker.h) */
};

void vault_stats(struct vault *v, struct vault_stats *ret);

/* For STATUS: addresses, breaker, the token's state and age, counters. No secret. NULL: no memory.
 */
json_t *vault_status(const struct vault *v);

DEFINE_AUTO(vault, vault_free)
#define AUTO_VAULT __attribute__((cleanup(cleanup_vault)))

#endif

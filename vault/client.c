/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "vault/client.h"

#include "vault/internal.h"

#include "common/deadline.h"
#include "common/strbuf.h"

#include <sys/random.h>

#define CONNECT_MS 5000u

uint32_t vault_jitter(void)
{
    uint32_t r = 0;

    (void)!getrandom(&r, sizeof(r), GRND_NONBLOCK); /* spreads load; decides nothing */
    return r;
}

/* "host:port" or "[address]:port"; nothing that would make another URL of it. */
static bool address_valid(const char *text)
{
    size_t len = strlen(text);

    if (len == 0 || len > 280 ||
        strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                     "0123456789.:-_[]") != len)
        return false;
    const char *colon = strrchr(text, ':');
    return colon != NULL && colon != text && colon[1] != '\0' &&
           strspn(colon + 1, "0123456789") == strlen(colon + 1);
}

static int copy_addresses(struct vault *v, const struct vault_options *o, struct error *err)
{
    for (size_t i = 0; i < VAULT_ADDRESSES_MAX && o->addresses[i] != NULL; i++) {
        if (!address_valid(o->addresses[i]))
            return error_set(err, ERR_INVALID, "'%s' is not HOST:PORT", o->addresses[i]);
        if (str_dup_opt(&v->addresses[v->n_addresses], o->addresses[i], err) < 0)
            return -1;
        v->n_addresses++;
    }
    if (v->n_addresses == 0)
        return error_set(err, ERR_INVALID, "no address of Vault is given");
    return 0;
}

static int copy_auth(struct vault *v, const struct vault_auth_options *a, struct error *err)
{
    v->auth.secret_id_wrapped = a->secret_id_wrapped;
    if (str_dup_opt(&v->auth.mount, a->mount != NULL ? a->mount : v->method->mount, err) < 0 ||
        str_dup_opt(&v->auth.role, a->role, err) < 0 ||
        str_dup_opt(&v->auth.token_path, a->token_path, err) < 0 ||
        str_dup_opt(&v->auth.role_id, a->role_id, err) < 0 ||
        str_dup_opt(&v->auth.secret_id_path, a->secret_id_path, err) < 0)
        return -1;
    if (a->token != NULL &&
        wipe_buffer_add(&v->auth.token, a->token, strlen(a->token), CREDENTIAL_MAX) < 0)
        return error_set(err, ERR_INVALID, "the token is longer than 8 KiB");
    return 0;
}

static int make_http(struct vault *v, const struct vault_options *o, struct error *err)
{
    const struct http_options h = { .ca_path = o->ca_path,
                                    .cert_path = o->cert_path,
                                    .key_path = o->key_path,
                                    .proxy = o->proxy,
                                    .connect_timeout_ms =
                                        o->timeout_ms < CONNECT_MS ? o->timeout_ms : CONNECT_MS };

    return http_client_new(v->loop, &h, &v->http, err);
}

static int set_up(struct vault *v, const struct vault_options *o, struct error *err)
{
    v->method = auth_method_find(o->auth.method);
    if (v->method == NULL)
        return error_set(err, ERR_INVALID,
                         "auth method '%s' is none of kubernetes, jwt, approle, "
                         "cert, token-file",
                         o->auth.method);
    if (auth_check(v->method, o, err) < 0 || copy_addresses(v, o, err) < 0 ||
        str_dup_opt(&v->name_space, o->name_space, err) < 0 || copy_auth(v, &o->auth, err) < 0)
        return -1;
    return make_http(v, o, err);
}

int vault_global_init(struct error *err)
{
    return http_global_init(err);
}

int vault_new(struct event_loop *loop, const struct vault_options *o, struct vault **ret,
              struct error *err)
{
    AUTO_VAULT struct vault *v = calloc(1, sizeof(*v));

    if (v == NULL)
        return error_memory(err);
    v->loop = loop;
    v->timeout_ms = o->timeout_ms;
    token_init(v);
    if (set_up(v, o, err) < 0)
        return -1;
    *ret = TAKE_PTR(v);
    return 0;
}

void vault_free(struct vault *v)
{
    if (v == NULL)
        return;
    v->stopped = NULL;
    call_cancel_all(v);
    http_client_free(v->http);
    event_timer_stop(v->loop, &v->stop_timer);
    token_release(v);
    for (size_t i = 0; i < v->n_addresses; i++)
        free(v->addresses[i]);
    free(v->name_space);
    free(v->auth.mount);
    free(v->auth.role);
    free(v->auth.token_path);
    free(v->auth.role_id);
    free(v->auth.secret_id_path);
    wipe_buffer_release(&v->auth.secret_id);
    wipe_buffer_release(&v->auth.shown);
    wipe_buffer_release(&v->auth.token);
    free(v);
}

static const char *const token_states[] = {
    [TOKEN_NONE] = "none",
    [TOKEN_LOGIN] = "logging in",
    [TOKEN_READY] = "ready",
};

static json_int_t seconds_left(uint64_t deadline)
{
    return deadline == DEADLINE_NEVER ? -1 : (json_int_t)(deadline_left(deadline) / 1000);
}

uint64_t vault_token_number(const struct vault *v)
{
    return v->token.state == TOKEN_READY ? v->token.generation : 0;
}

void vault_stats(struct vault *v, struct vault_stats *ret)
{
    const struct token *t = &v->token;
    const struct vault_counters *c = &v->counters;
    bool ready = t->state == TOKEN_READY;

    *ret = (struct vault_stats){
        .failed = c->failed,
        .logins = c->logins,
        .logins_failed = c->logins_failed,
        .renewals = c->renewals,
        .guests = c->guests,
        .guests_failed = c->guests_failed,
        .replies = c->replies,
        .took = &v->counters.took,
        .has_token = ready,
        .expires = ready && t->expires_at != DEADLINE_NEVER,
        .token_age_ms = ready ? clock_ms() - t->since : 0,
        .token_left_ms = ready ? deadline_left(t->expires_at) : 0,
        .breaker = breaker_state(&v->breaker, clock_ms()),
    };
}

json_t *vault_status(const struct vault *v)
{
    const struct token *t = &v->token;
    const struct vault_counters *c = &v->counters;
    bool ready = t->state == TOKEN_READY;
    json_t *addresses = json_array();

    for (size_t i = 0; i < v->n_addresses; i++)
        (void)json_array_append_new(addresses, json_string(v->addresses[i]));
    return json_pack("{s:o, s:s, s:s, s:s, s:I, s:I, s:s, s:{s:I, s:I, s:I, s:I, s:I, s:I, s:I}}",
                     "addresses", addresses, "breaker", breaker_state(&v->breaker, clock_ms()),
                     "method", v->method->name, "token", token_states[t->state], "token_age_s",
                     (json_int_t)(ready ? (clock_ms() - t->since) / 1000 : 0), "token_left_s",
                     ready ? seconds_left(t->expires_at) : 0, "refusal",
                     clock_ms() < t->refused_until ? t->refusal.msg : "", "counters", "requests",
                     (json_int_t)c->requests, "failed", (json_int_t)c->failed, "logins",
                     (json_int_t)c->logins, "logins_failed", (json_int_t)c->logins_failed,
                     "renewals", (json_int_t)c->renewals, "pod_logins", (json_int_t)c->guests,
                     "pod_logins_failed", (json_int_t)c->guests_failed);
}

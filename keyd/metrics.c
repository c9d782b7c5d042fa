/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/metrics.h"
#include "vault/breaker.h"

/* ---- what clients ask ---- */

static void write_requests(const struct counters *c, struct metrics *m)
{
    metrics_family(m, METRIC_COUNTER, "coffer_keyd_requests_total",
                   "Requests answered, by operation and result.");
    for (uint16_t op = 0; op < WIRE_OP_LIMIT; op++) {
        const struct wire_message *message = wire_message_find(op);

        for (size_t code = 0; message != NULL && code < ERR_CODE_COUNT; code++) {
            if (c->requests[op][code] > 0 || code == ERR_OK)
                metrics_sample(m,
                               LABELS({ "op", wire_message_name(message) },
                                      { "result", error_code_name((enum error_code)code) }),
                               c->requests[op][code]);
        }
    }
}

static void write_connections(const struct keyd *k, struct metrics *m)
{
    const struct counters *c = &k->counters;

    metrics_one(m, METRIC_GAUGE, "coffer_keyd_connections", "Connections open now.",
                k->connections);
    metrics_one(m, METRIC_COUNTER, "coffer_keyd_connections_accepted_total",
                "Connections of allowed peers.", c->accepted);
    metrics_one(m, METRIC_COUNTER, "coffer_keyd_connections_refused_total",
                "Connections of peers that may not use this coffer-keyd.", c->refused_peers);
    metrics_one(m, METRIC_COUNTER, "coffer_keyd_connections_broken_total",
                "Connections ended for a malformed frame.", c->broken);
    metrics_one(m, METRIC_COUNTER, "coffer_keyd_connections_idle_total",
                "Connections ended because they were silent.", c->idle_closed);
}

/* ---- key services ---- */

static void write_services(const struct kms_set *set, struct metrics *m)
{
    metrics_family(m, METRIC_GAUGE, "coffer_keyd_kms_info",
                   "Always 1: the key services; insecure: a master key in a plain file.");
    for (size_t i = 0; i < set->n; i++) {
        const struct kms_driver *d = set->items[i].driver;

        metrics_sample(m,
                       LABELS({ "kms", set->items[i].name }, { "kind", d->kind },
                              { "insecure", d->insecure ? "true" : "false" }),
                       1);
    }
}

typedef void write_stats(struct metrics *m, const char *kms, const struct kms_stats *s);

static void write_replies(struct metrics *m, const char *kms, const struct kms_stats *s)
{
    static const char *const results[VAULT_REPLIES] = { "none", "1xx", "2xx", "3xx", "4xx", "5xx" };

    for (size_t i = 0; i < VAULT_REPLIES; i++) {
        if (i != 1)
            metrics_sample(m, LABELS({ "kms", kms }, { "reply", results[i] }), s->vault.replies[i]);
    }
}

static void write_took(struct metrics *m, const char *kms, const struct kms_stats *s)
{
    metrics_histogram(m, LABELS({ "kms", kms }), s->vault.took);
}

static void write_failed(struct metrics *m, const char *kms, const struct kms_stats *s)
{
    metrics_sample(m, LABELS({ "kms", kms }), s->vault.failed);
}

static void write_logins(struct metrics *m, const char *kms, const struct kms_stats *s)
{
    metrics_sample(m, LABELS({ "kms", kms }), s->vault.logins);
}

static void write_logins_failed(struct metrics *m, const char *kms, const struct kms_stats *s)
{
    metrics_sample(m, LABELS({ "kms", kms }), s->vault.logins_failed);
}

static void write_pod_logins(struct metrics *m, const char *kms, const struct kms_stats *s)
{
    metrics_sample(m, LABELS({ "kms", kms }), s->vault.guests);
}

static void write_pod_logins_failed(struct metrics *m, const char *kms, const struct kms_stats *s)
{
    metrics_sample(m, LABELS({ "kms", kms }), s->vault.guests_failed);
}

static void write_renewals(struct metrics *m, const char *kms, const struct kms_stats *s)
{
    metrics_sample(m, LABELS({ "kms", kms }), s->vault.renewals);
}

static void write_token(struct metrics *m, const char *kms, const struct kms_stats *s)
{
    metrics_sample(m, LABELS({ "kms", kms }), s->vault.has_token ? 1 : 0);
}

static void write_token_age(struct metrics *m, const char *kms, const struct kms_stats *s)
{
    if (s->vault.has_token)
        metrics_seconds(m, LABELS({ "kms", kms }), s->vault.token_age_ms * 1000);
}

static void write_token_left(struct metrics *m, const char *kms, const struct kms_stats *s)
{
    if (s->vault.expires)
        metrics_seconds(m, LABELS({ "kms", kms }), s->vault.token_left_ms * 1000);
}

/* One sample for each state, 1 for the one it is in. */
static void write_state(struct metrics *m, const char *kms, const char *const *states, size_t n,
                        const char *now)
{
    for (size_t i = 0; i < n; i++)
        metrics_sample(m, LABELS({ "kms", kms }, { "state", states[i] }),
                       strcmp(states[i], now) == 0 ? 1 : 0);
}

static void write_breaker(struct metrics *m, const char *kms, const struct kms_stats *s)
{
    write_state(m, kms, breaker_states, ARRAY_SIZE(breaker_states), s->vault.breaker);
}

static void write_self_test(struct metrics *m, const char *kms, const struct kms_stats *s)
{
    write_state(m, kms, kms_self_tests, ARRAY_SIZE(kms_self_tests), s->self_test);
}

static const struct {
    enum metric_type type;
    const char *name, *help;
    write_stats *write;
} families[] = {
    { METRIC_COUNTER, "coffer_keyd_vault_replies_total",
      "Attempts at Vault, by the class of the status; none: no whole reply came.", write_replies },
    { METRIC_HISTOGRAM, "coffer_keyd_vault_request_duration_seconds",
      "How long attempts at Vault took, a connection's making included.", write_took },
    { METRIC_COUNTER, "coffer_keyd_vault_failures_total",
      "Requests to Vault that failed, after all their attempts.", write_failed },
    { METRIC_COUNTER, "coffer_keyd_vault_logins_total", "Logins begun.", write_logins },
    { METRIC_COUNTER, "coffer_keyd_vault_login_failures_total", "Logins that failed.",
      write_logins_failed },
    { METRIC_COUNTER, "coffer_keyd_vault_pod_logins_total", "Logins by a pod's own token begun.",
      write_pod_logins },
    { METRIC_COUNTER, "coffer_keyd_vault_pod_login_failures_total",
      "Logins by a pod's own token that failed.", write_pod_logins_failed },
    { METRIC_COUNTER, "coffer_keyd_vault_renewals_total", "Renewals of a token begun.",
      write_renewals },
    { METRIC_GAUGE, "coffer_keyd_vault_token", "1 when there is a token, else 0.", write_token },
    { METRIC_GAUGE, "coffer_keyd_vault_token_age_seconds", "Since the token was got or renewed.",
      write_token_age },
    { METRIC_GAUGE, "coffer_keyd_vault_token_left_seconds", "Until the token expires.",
      write_token_left },
    { METRIC_GAUGE, "coffer_keyd_vault_breaker",
      "1 for the state in which the circuit breaker is; open: Vault isn't asked for a while.",
      write_breaker },
    { METRIC_GAUGE, "coffer_keyd_vault_self_test",
      "1 for what became of the last look at what this login may and must not do.",
      write_self_test },
};

static void write_vault(const struct kms_set *set, struct metrics *m)
{
    for (size_t f = 0; f < ARRAY_SIZE(families); f++) {
        metrics_family(m, families[f].type, families[f].name, families[f].help);
        for (size_t i = 0; i < set->n; i++) {
            const struct kms *kms = &set->items[i];
            struct kms_stats stats;

            if (kms->driver->stats != NULL && kms->driver->stats(kms->state, &stats))
                families[f].write(m, kms->name, &stats);
        }
    }
}

void keyd_metrics_write(const struct keyd *k, struct metrics *m)
{
    write_requests(&k->counters, m);
    write_connections(k, m);
    write_services(k->kms, m);
    write_vault(k->kms, m);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "keyd/metrics.h"

static uint64_t replies[VAULT_REPLIES] = { 1, 0, 20, 3, 4, 5 };
static struct histogram took;

static bool stats(const void *state, struct kms_stats *ret)
{
    if (state == NULL)
        return false; /* shares another one's login */
    *ret = (struct kms_stats){ .vault = { .failed = 2,
                                          .logins = 6,
                                          .logins_failed = 1,
                                          .renewals = 3,
                                          .replies = replies,
                                          .took = &took,
                                          .has_token = true,
                                          .expires = true,
                                          .token_age_ms = 1500,
                                          .token_left_ms = 60000,
                                          .breaker = "half-open" },
                               .self_test = "failed" };
    return true;
}

static const struct kms_driver plain = { .kind = "file", .insecure = true };
static const struct kms_driver vault = { .kind = "transit", .stats = stats };

static void everything_is_labelled_with_few_values(void **state)
{
    static int login;
    struct kms items[] = { { .name = "dev", .driver = &plain },
                           { .name = "v1", .driver = &vault, .state = &login },
                           { .name = "v2", .driver = &vault, .state = NULL } };
    struct kms_set set = { .items = items, .n = ARRAY_SIZE(items) };
    struct keyd keyd = { .kms = &set, .connections = 4 };
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(METRICS_MAX);
    struct metrics m = { .text = &text };
    static const char *const lines[] = {
        "coffer_keyd_requests_total{op=\"MINT\",result=\"OK\"} 7\n",
        "coffer_keyd_requests_total{op=\"UNWRAP\",result=\"ABORTED\"} 2\n",
        "coffer_keyd_connections 4\n",
        "coffer_keyd_kms_info{kms=\"dev\",kind=\"file\",insecure=\"true\"} 1\n",
        "coffer_keyd_kms_info{kms=\"v2\",kind=\"transit\",insecure=\"false\"} 1\n",
        "coffer_keyd_vault_replies_total{kms=\"v1\",reply=\"none\"} 1\n",
        "coffer_keyd_vault_replies_total{kms=\"v1\",reply=\"2xx\"} 20\n",
        "coffer_keyd_vault_replies_total{kms=\"v1\",reply=\"5xx\"} 5\n",
        "coffer_keyd_vault_request_duration_seconds_count{kms=\"v1\"} 1\n",
        "coffer_keyd_vault_failures_total{kms=\"v1\"} 2\n",
        "coffer_keyd_vault_logins_total{kms=\"v1\"} 6\n",
        "coffer_keyd_vault_login_failures_total{kms=\"v1\"} 1\n",
        "coffer_keyd_vault_renewals_total{kms=\"v1\"} 3\n",
        "coffer_keyd_vault_token{kms=\"v1\"} 1\n",
        "coffer_keyd_vault_token_age_seconds{kms=\"v1\"} 1.500000\n",
        "coffer_keyd_vault_token_left_seconds{kms=\"v1\"} 60.000000\n",
        "coffer_keyd_vault_breaker{kms=\"v1\",state=\"half-open\"} 1\n",
        "coffer_keyd_vault_breaker{kms=\"v1\",state=\"open\"} 0\n",
        "coffer_keyd_vault_self_test{kms=\"v1\",state=\"failed\"} 1\n",
        "coffer_keyd_vault_self_test{kms=\"v1\",state=\"passed\"} 0\n",
    };

    keyd.counters.requests[WIRE_MINT][ERR_OK] = 7;
    keyd.counters.requests[WIRE_UNWRAP][ERR_ABORTED] = 2;
    histogram_add(&took, 10);
    keyd_metrics_write(&keyd, &m);
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        if (strstr(strbuf_text(&text), lines[i]) == NULL)
            fail_msg("no %s", lines[i]);
    }
    assert_null(strstr(strbuf_text(&text), "vault_logins_total{kms=\"v2\"}"));
    assert_null(strstr(strbuf_text(&text), "vault_logins_total{kms=\"dev\"}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(everything_is_labelled_with_few_values) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

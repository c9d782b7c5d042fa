/* SPDX-License-Identifier: Apache-2.0 */
/* The server itself, its clock, its audit log, and the token that we ask with. */
#include "common/base.h"
#include "cofferctl/vault_check.h"

#include <inttypes.h>
#include <time.h>

/* 200 whatever its state: the body says it. */
#define HEALTH                                                         \
    "standbyok=true&perfstandbyok=true&sealedcode=200&uninitcode=200&" \
    "drsecondarycode=200&performancestandbycode=200"
#define SKEW_WARN_S 5
#define SKEW_FAIL_S 60
#define TTL_MAX_S   (32L * 86400)

static const char *text_of(const json_t *obj, const char *key)
{
    const char *text = json_string_value(json_object_get(obj, key));
    return text == NULL ? "" : text;
}

/* ---- the server ---- */

static void say_unreachable(const struct vault_target *t, struct findings *f,
                            const struct error *err)
{
    bool trust = strstr(err->msg, "TLS") != NULL;
    char fix[400];

    if (trust)
        (void)snprintf(fix, sizeof(fix),
                       "compare 'ca' and the address with: openssl s_client -connect %s",
                       t->login.address);
    else
        (void)snprintf(fix, sizeof(fix), "start it, or correct the address: curl https://%s",
                       t->login.address);
    findings_say(f, FOUND_FAIL, fix, "%s", err->msg);
}

static void check_clock(const json_t *health, struct findings *f)
{
    json_int_t theirs = json_integer_value(json_object_get(health, "server_time_utc"));
    int64_t skew = (int64_t)time(NULL) - theirs;
    int64_t much = skew < 0 ? -skew : skew;

    f->check = "clock";
    if (theirs == 0)
        findings_say(f, FOUND_WARN, "", "the server doesn't say what time it is");
    else if (much < SKEW_WARN_S)
        findings_say(f, FOUND_OK, "", "this machine's and the server's agree");
    else
        findings_say(f, much < SKEW_FAIL_S ? FOUND_WARN : FOUND_FAIL,
                     "set both by NTP: timedatectl set-ntp true",
                     "this machine's is %" PRId64 " s %s the server's: tokens seem expired or not "
                     "yet valid",
                     much, skew > 0 ? "ahead of" : "behind");
}

bool vault_check_server(const struct vault_target *t, struct findings *f)
{
    AUTO_JSON json_t *health = NULL;
    struct error err = ERROR_INIT;

    f->check = "server";
    if (vault_session_anonymous(t->session, "sys/health?" HEALTH, &health, &err) < 0) {
        say_unreachable(t, f, &err);
        return false;
    }
    if (!json_is_true(json_object_get(health, "initialized"))) {
        findings_say(f, FOUND_FAIL, "vault operator init", "%s is not initialised",
                     t->login.address);
        return false;
    }
    if (!json_is_false(json_object_get(health, "sealed"))) {
        findings_say(f, FOUND_FAIL, "vault operator unseal", "%s is sealed", t->login.address);
        return false;
    }
    findings_say(f, FOUND_OK, "", "%s answers, unsealed%s, version %s", t->login.address,
                 json_is_true(json_object_get(health, "standby")) ? ", a standby" : "",
                 text_of(health, "version"));
    check_clock(health, f);
    return true;
}

/* ---- the token ---- */

static bool has(const json_t *list, const char *name)
{
    const json_t *item;
    size_t i;

    json_array_foreach (list, i, item) {
        const char *text = json_string_value(item);
        if (text != NULL && strcmp(text, name) == 0)
            return true;
    }
    return false;
}

static void say_token(const struct vault_target *t, struct findings *f, const json_t *data)
{
    const json_t *policies = json_object_get(data, "policies");
    json_int_t ttl = json_integer_value(json_object_get(data, "ttl"));
    json_int_t uses = json_integer_value(json_object_get(data, "num_uses"));

    if (has(policies, "root"))
        findings_say(f, FOUND_WARN, "when you are done: vault token revoke -self",
                     "it is a root token, which may do everything");
    else
        findings_say(f, FOUND_OK, "", "the server takes it, for %" JSON_INTEGER_FORMAT " s", ttl);
    if (t->login.administrator)
        return;
    if (ttl <= 0 || ttl > TTL_MAX_S)
        findings_say(f, FOUND_WARN, "cofferctl vault setup --apply",
                     "a login's token lives %" JSON_INTEGER_FORMAT " s", ttl);
    if (uses != 0)
        findings_say(f, FOUND_FAIL, "cofferctl vault setup --apply",
                     "a login's token is used up after %" JSON_INTEGER_FORMAT " requests", uses);
    if (has(policies, "default"))
        findings_say(f, FOUND_WARN, "cofferctl vault setup --apply",
                     "it has the default policy, which coffer-keyd doesn't need");
}

bool vault_check_token(const struct vault_target *t, struct findings *f)
{
    AUTO_JSON json_t *data = NULL;
    struct error err = ERROR_INIT;

    f->check = t->login.administrator ? "token" : "login";
    if (vault_session_read(t->session, "auth/token/lookup-self", &data, &err) < 0) {
        findings_say(f, FOUND_FAIL,
                     t->login.administrator
                         ? "vault login, or another token"
                         : "cofferctl vault setup --apply, with an administrator's "
                           "token; then the role's credential",
                     "%s", err.msg);
        return false;
    }
    say_token(t, f, data);
    return true;
}

/* ---- audit ---- */

void vault_check_audit(const struct vault_target *t, struct findings *f)
{
    AUTO_JSON json_t *data = NULL;
    struct error err = ERROR_INIT;

    f->check = "audit";
    if (vault_session_read(t->session, "sys/audit", &data, &err) < 0)
        findings_say(f, FOUND_WARN, "ask with an administrator's token", "it can't be seen: %s",
                     err.msg);
    else if (json_object_size(data) == 0)
        findings_say(f, FOUND_WARN, "vault audit enable file file_path=/var/log/vault_audit.log",
                     "the server keeps no audit log: nobody can tell who unwrapped what");
    else
        findings_say(f, FOUND_OK, "", "the server keeps an audit log");
}

/* SPDX-License-Identifier: Apache-2.0 */
/* doctor's lines about key services, from coffer-keyd's STATUS: who is asked, by which login, and
 * what the self-test found. */
#include "common/base.h"
#include "cofferctl/doctor.h"

static const char *text_of(const json_t *obj, const char *key)
{
    const char *text = json_string_value(json_object_get(obj, key));

    return text == NULL ? "" : text;
}

static bool is(const json_t *obj, const char *key, const char *value)
{
    return strcmp(text_of(obj, key), value) == 0;
}

#define FIX_MAX 200u

static const char *check_fix(const char *name, char ret[FIX_MAX])
{
    (void)snprintf(ret, FIX_MAX, "cofferctl vault check --kms %.100s", name);
    return ret;
}

/* The first address; keyd asks them in turn. */
static const char *address_of(const json_t *service)
{
    const char *text = json_string_value(json_array_get(json_object_get(service, "addresses"), 0));

    return text == NULL ? "an unknown address" : text;
}

/* ---- the parts of "service", each at most one line ---- */

static void say_breaker(const char *name, const json_t *service, struct findings *f)
{
    char fix[FIX_MAX];
    bool open = is(service, "breaker", "open");

    if (open || is(service, "breaker", "half-open"))
        findings_say(f, open ? FOUND_FAIL : FOUND_WARN, check_fix(name, fix),
                     "key service '%s': Vault at %s doesn't answer; %s", name, address_of(service),
                     open ? "coffer-keyd asks again after a pause" : "it is being asked again");
}

static void say_login(const char *name, const json_t *service, struct findings *f)
{
    char fix[FIX_MAX];

    if (text_of(service, "refusal")[0] != '\0')
        findings_say(f, FOUND_FAIL, check_fix(name, fix), "key service '%s': %s", name,
                     text_of(service, "refusal"));
}

static void say_self_test(const char *name, const json_t *service, struct findings *f)
{
    char fix[FIX_MAX];
    const char *refusal = text_of(service, "self_test_refusal");

    /* a refused login has said it already */
    if (is(service, "self_test", "failed") && strcmp(refusal, text_of(service, "refusal")) != 0)
        findings_say(f, FOUND_FAIL, check_fix(name, fix), "key service '%s': %s", name, refusal);
}

static void say_fine(const char *name, const char *kind, const json_t *service, struct findings *f)
{
    json_int_t age = json_integer_value(json_object_get(service, "token_age_s"));
    json_int_t left = json_integer_value(json_object_get(service, "token_left_s"));
    bool token = is(service, "token", "ready");

    if (is(service, "self_test", "not yet"))
        findings_say(
            f, FOUND_OK, "",
            "key service '%s' (%s) at %s: nothing was asked of it yet; the self-test comes "
            "with the first key",
            name, kind, address_of(service));
    else if (!token)
        findings_say(f, FOUND_OK, "",
                     "key service '%s' (%s) at %s: the self-test passed; no token now, the next "
                     "request gets one by %s",
                     name, kind, address_of(service), text_of(service, "method"));
    else if (left < 0)
        findings_say(f, FOUND_OK, "",
                     "key service '%s' (%s) at %s: the self-test passed; token by %s, %lld s old, "
                     "without an end",
                     name, kind, address_of(service), text_of(service, "method"), (long long)age);
    else
        findings_say(f, FOUND_OK, "",
                     "key service '%s' (%s) at %s: the self-test passed; token by %s, %lld s old, "
                     "good for %lld s",
                     name, kind, address_of(service), text_of(service, "method"), (long long)age,
                     (long long)left);
}

static void say_service(const char *name, const char *kind, const json_t *service,
                        struct findings *f)
{
    struct findings own = { .rows = f->rows, .check = f->check };

    say_breaker(name, service, &own);
    say_login(name, service, &own);
    say_self_test(name, service, &own);
    if (own.worst == FOUND_OK)
        say_fine(name, kind, service, &own);
    if (own.worst > f->worst)
        f->worst = own.worst;
}

/* ---- each key service ---- */

static void say_plain(const char *name, const char *kind, bool insecure, struct findings *f)
{
    findings_say(f, insecure ? FOUND_WARN : FOUND_OK,
                 insecure ? "use Vault: whoever reads the master key file reads every key" : "",
                 "key service '%s' (%s)%s", name, kind, insecure ? " is for development only" : "");
}

void doctor_kms(const struct config *config, const json_t *list, struct findings *f)
{
    const json_t *kms;
    size_t i;

    json_array_foreach (list, i, kms) {
        const char *name = text_of(kms, "name"), *kind = text_of(kms, "kind");
        const json_t *service = json_object_get(kms, "service");

        if (name[0] == '\0' || kind[0] == '\0')
            continue;
        if (json_is_object(service))
            say_service(name, kind, service, f);
        else
            say_plain(name, kind, json_is_true(json_object_get(kms, "insecure")), f);
        if (config != NULL && config_kms(config, name) == NULL)
            findings_say(f, FOUND_WARN, "restart coffer-keyd",
                         "it serves '%s', which this configuration doesn't have", name);
    }
}

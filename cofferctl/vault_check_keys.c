/* SPDX-License-Identifier: Apache-2.0 */
/* The transit keys that are there: of a kind that binds and that nobody can take out. */
#include "common/base.h"
#include "cofferctl/vault_check.h"

#define ROWS_MAX 50u /* of keys that are wrong; the rest is counted */

static const struct property {
    const char *field;
    bool right, tenant_only;
    enum verdict verdict;
    const char *problem;
} properties[] = {
    { "derived", true, true, FOUND_FAIL,
      "it is not derived: what it wrapped opens whatever the context, so for any volume" },
    { "exportable", false, false, FOUND_FAIL,
      "it is exportable: whoever may export it reads every volume, for ever" },
    { "allow_plaintext_backup", false, false, FOUND_FAIL,
      "it can be backed up in clear: whoever may do it reads every volume, for ever" },
    { "convergent_encryption", false, true, FOUND_FAIL,
      "it is convergent: the same key is wrapped into the same text" },
    { "deletion_allowed", false, false, FOUND_WARN,
      "it may be deleted, and with it everything that it wrapped" },
};

const char *vault_key_problem(const json_t *key, bool tenant, enum verdict *ret)
{
    const char *type = json_string_value(json_object_get(key, "type"));

    if (tenant && (type == NULL || strcmp(type, "aes256-gcm96") != 0)) {
        *ret = FOUND_FAIL;
        return "it is not of type aes256-gcm96";
    }
    if (!tenant && (type == NULL || strncmp(type, "rsa-", 4) != 0)) {
        *ret = FOUND_FAIL;
        return "it is not an RSA key";
    }
    for (size_t i = 0; i < ARRAY_SIZE(properties); i++) {
        const struct property *p = &properties[i];
        if (p->tenant_only && !tenant)
            continue;
        if (json_is_true(json_object_get(key, p->field)) != p->right) {
            *ret = p->verdict;
            return p->problem;
        }
    }
    return NULL;
}

struct tally {
    size_t looked_at, wrong;
};

static const char *fix_of(enum verdict v)
{
    return v == FOUND_WARN ? "vault write MOUNT/keys/NAME/config deletion_allowed=false"
                           : "it can't be taken back: make another tenant's key, and copy the data "
                             "of its volumes to new ones";
}

static void check_key(const struct vault_target *t, struct findings *f, const char *name,
                      bool tenant, struct tally *tally)
{
    AUTO_JSON json_t *key = NULL;
    struct error err = ERROR_INIT;
    enum verdict verdict = FOUND_WARN;
    char path[VAULT_PATH_MAX + 1];

    (void)snprintf(path, sizeof(path), "%.127s/keys/%.255s", t->layout.transit, name);
    tally->looked_at++;
    if (vault_session_read(t->session, path, &key, &err) < 0) {
        findings_say(f, FOUND_WARN, "ask with an administrator's token", "%s can't be seen: %s",
                     name, err.msg);
        return;
    }
    const char *problem = key == NULL ? NULL : vault_key_problem(key, tenant, &verdict);
    if (problem != NULL && tally->wrong++ < ROWS_MAX)
        findings_say(f, verdict, fix_of(verdict), "%s/keys/%s: %s", t->layout.transit, name,
                     problem);
}

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static bool is_tenants(const struct vault_layout *l, const char *name)
{
    return l->one_key ? strcmp(name, l->tenant_key) == 0 : begins(name, l->tenant_key);
}

static void check_all(const struct vault_target *t, struct findings *f, const json_t *names)
{
    struct tally tenants = { 0, 0 }, servers = { 0, 0 };
    const json_t *item;
    size_t i;

    json_array_foreach (names, i, item) {
        const char *name = json_string_value(item);
        if (name != NULL && is_tenants(&t->layout, name))
            check_key(t, f, name, true, &tenants);
        else if (name != NULL && begins(name, t->layout.server_key))
            check_key(t, f, name, false, &servers);
    }
    if (tenants.wrong + servers.wrong > ROWS_MAX)
        findings_say(f, FOUND_FAIL, "", "%zu keys are wrong; the first of them are above",
                     tenants.wrong + servers.wrong);
    else if (tenants.wrong + servers.wrong == 0 && f->worst == FOUND_OK)
        findings_say(f, FOUND_OK, "", "%zu of tenants, %zu of the server, all as they must be",
                     tenants.looked_at, servers.looked_at);
}

void vault_check_keys(const struct vault_target *t, struct findings *all)
{
    AUTO_JSON json_t *data = NULL;
    struct findings f = { .rows = all->rows, .check = "keys" };
    struct error err = ERROR_INIT;
    char path[VAULT_PATH_MAX + 1];

    if (t->layout.transit[0] == '\0')
        return;
    (void)snprintf(path, sizeof(path), "%.127s/keys?list=true", t->layout.transit);
    if (vault_session_read(t->session, path, &data, &err) < 0)
        findings_say(&f, FOUND_WARN, "ask with an administrator's token", "they can't be seen: %s",
                     err.msg);
    else
        check_all(t, &f, json_object_get(data, "keys"));
}

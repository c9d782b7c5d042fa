/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Without an administrator's token: what the identity that the configuration names may do. The same
 * question as coffer-keyd's self-test, but here no process says which part of it is wanted, so it
 * says what is there, and what nobody may have.
 */
#include "common/base.h"
#include "cofferctl/vault_check.h"

#include "common/strbuf.h"

static const struct ability {
    bool kv;
    const char *path; /* below the mount; %s: a tenant's key, or a secret */
    const char *capability, *what;
    bool never;
} abilities[] = {
    { false, "datakey/wrapped/%s", "update", "mint wrapped keys", false },
    { false, "decrypt/%s", "update", "unwrap keys", false },
    { false, "datakey/plaintext/%s", "update", "mint keys in clear", true },
    { false, "export/encryption-key/%s", "read", "export keys", true },
    { false, "backup/%s", "read", "back keys up in clear", true },
    { false, "keys/%s/config", "update", "change a key's settings", true },
    { true, "data/%s", "create", "store keys", false },
    { true, "data/%s", "read", "read keys", false },
    { true, "metadata/%s", "read", "see whether a key is stored", false },
    { true, "metadata/%s", "delete", "destroy keys", false },
    { true, "data/%s", "update", "replace keys", true },
    { true, "data/%s", "patch", "change keys", true },
    { true, "data/%s", "delete", "hide keys", true },
    { true, "metadata/%s", "update", "have keys go at a date", true },
    { true, "metadata/%s", "patch", "change what is known of keys", true },
};

#define EXAMPLE_TENANT "example"
#define EXAMPLE_SECRET "00000000-0000-4000-8000-000000000000"

static bool ability_path(const struct vault_layout *l, const struct ability *a,
                         char ret[VAULT_PATH_MAX + 1])
{
    const char *mount = a->kv ? l->kv : l->transit, *mark = strstr(a->path, "%s");
    const char *first = a->kv ? l->kv_prefix : l->tenant_key;
    const char *second = a->kv ? "/" EXAMPLE_SECRET : l->one_key ? "" : EXAMPLE_TENANT;

    (void)snprintf(ret, VAULT_PATH_MAX + 1, "%.127s/%.*s%.127s%s%s", mount, (int)(mark - a->path),
                   a->path, first, second, mark + 2);
    return mount[0] != '\0';
}

static json_t *question(const struct vault_layout *l)
{
    json_t *paths = json_array();
    char path[VAULT_PATH_MAX + 1];

    for (size_t i = 0; i < ARRAY_SIZE(abilities); i++) {
        if (ability_path(l, &abilities[i], path))
            (void)json_array_append_new(paths, json_string(path));
    }
    return json_pack("{s:o}", "paths", paths);
}

static bool holds(const json_t *list, const char *capability)
{
    const json_t *item;
    size_t i;

    json_array_foreach (list, i, item) {
        const char *text = json_string_value(item);
        if (text != NULL && (strcmp(text, capability) == 0 || strcmp(text, "root") == 0))
            return true;
    }
    return false;
}

static void judge(const struct vault_target *t, struct findings *f, const json_t *data)
{
    AUTO_STRBUF struct strbuf may = STRBUF_INIT(1024);
    char path[VAULT_PATH_MAX + 1];

    for (size_t i = 0; i < ARRAY_SIZE(abilities); i++) {
        const struct ability *a = &abilities[i];
        if (!ability_path(&t->layout, a, path) ||
            !holds(json_object_get(data, path), a->capability))
            continue;
        if (a->never)
            findings_say(f, FOUND_FAIL, "cofferctl vault setup --apply",
                         "this identity may %s ('%s' at %s), which nobody may have", a->what,
                         a->capability, path);
        else
            strbuf_addf(&may, "%s%s", may.len > 0 ? ", " : "", a->what);
    }
    if (may.len > 0)
        findings_say(f, FOUND_OK, "", "this identity may: %s", strbuf_text(&may));
    else
        findings_say(f, FOUND_FAIL, "cofferctl vault setup --apply",
                     "this identity may neither mint nor unwrap");
}

void vault_check_login(const struct vault_target *t, struct findings *f)
{
    AUTO_JSON json_t *body = question(&t->layout);
    AUTO_JSON json_t *answer = NULL;
    struct error err = ERROR_INIT;

    f->check = "rights";
    if (vault_session_post(t->session, "sys/capabilities-self", body, 0, &answer, &err) < 0)
        findings_say(f, FOUND_FAIL, "cofferctl vault setup --apply",
                     "this identity can't ask what it may do: %s", err.msg);
    else
        judge(t, f, json_object_get(answer, "data"));
    findings_say(f, FOUND_WARN, "VAULT_TOKEN=... cofferctl vault check",
                 "mounts, policies, roles, keys and the audit log are seen with an administrator's "
                 "token only");
}

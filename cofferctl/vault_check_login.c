/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Without an administrator's token: what the identity that the configuration names may do. The same
 * question as coffer-keyd's self-test, but here no process says which part of it is wanted, so it
 * says what is there, and what nobody may have.
 */
#include "common/base.h"
#include "cofferctl/vault_check.h"

#include "common/strbuf.h"
#include "vault/capability.h"

enum of { OF_TENANT, OF_SERVER, OF_SECRET };

static const struct ability {
    enum of of;
    const char *path; /* below the mount; %s: a tenant's key, the server's, or a secret */
    const char *capability, *what;
    bool never;
} abilities[] = {
    { OF_TENANT, "datakey/wrapped/%s", "update", "mint wrapped keys", false },
    { OF_TENANT, "decrypt/%s", "update", "unwrap keys", false },
    { OF_TENANT, "datakey/plaintext/%s", "update", "mint keys in clear", true },
    { OF_TENANT, "export/encryption-key/%s", "read", "export keys", true },
    { OF_TENANT, "backup/%s", "read", "back keys up in clear", true },
    { OF_TENANT, "keys/%s/config", "update", "change a key's settings", true },
    { OF_SERVER, "decrypt/%s", "update", "open devices' sessions", false },
    { OF_SERVER, "keys/%s", "read", "read the server's public key", false },
    { OF_SERVER, "export/encryption-key/%s", "read", "export the server's key", true },
    { OF_SERVER, "backup/%s", "read", "back the server's key up in clear", true },
    { OF_SERVER, "keys/%s/config", "update", "change the settings of the server's key", true },
    { OF_SECRET, "data/%s", "create", "store keys", false },
    { OF_SECRET, "data/%s", "read", "read keys", false },
    { OF_SECRET, "metadata/%s", "read", "see whether a key is stored", false },
    { OF_SECRET, "metadata/%s", "delete", "destroy keys", false },
    { OF_SECRET, "data/%s", "update", "replace keys", true },
    { OF_SECRET, "data/%s", "patch", "change keys", true },
    { OF_SECRET, "data/%s", "delete", "hide keys", true },
    { OF_SECRET, "metadata/%s", "update", "have keys go at a date", true },
    { OF_SECRET, "metadata/%s", "patch", "change what is known of keys", true },
};

#define EXAMPLE_TENANT "example"
#define EXAMPLE_SECRET "00000000-0000-4000-8000-000000000000"

/* False: there is none. */
static bool name_of(const struct vault_layout *l, enum of of, char *ret, size_t size)
{
    const char *before = of == OF_TENANT ? l->tenant_key : l->kv_prefix;
    const char *after = of == OF_SECRET ? "/" EXAMPLE_SECRET : l->one_key ? "" : EXAMPLE_TENANT;

    if (of == OF_SERVER)
        (void)snprintf(ret, size, "%s", l->server_name);
    else
        (void)snprintf(ret, size, "%s%s", before, after);
    return of == OF_SECRET ? l->kv[0] != '\0'
                           : l->transit[0] != '\0' && (of == OF_TENANT || ret[0] != '\0');
}

static bool ability_path(const struct vault_layout *l, const struct ability *a,
                         char ret[VAULT_PATH_MAX + 1])
{
    const char *mount = a->of == OF_SECRET ? l->kv : l->transit, *mark = strstr(a->path, "%s");
    char name[sizeof(l->tenant_key) + sizeof(EXAMPLE_SECRET) + 1];

    if (!name_of(l, a->of, name, sizeof(name)))
        return false;
    (void)snprintf(ret, VAULT_PATH_MAX + 1, "%.127s/%.*s%s%s", mount, (int)(mark - a->path),
                   a->path, name, mark + 2);
    return true;
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

static void judge(const struct vault_target *t, struct findings *f, const json_t *data)
{
    AUTO_STRBUF struct strbuf may = STRBUF_INIT(1024);
    char path[VAULT_PATH_MAX + 1];

    for (size_t i = 0; i < ARRAY_SIZE(abilities); i++) {
        const struct ability *a = &abilities[i];
        if (!ability_path(&t->layout, a, path) ||
            !vault_capability_in(json_object_get(data, path), a->capability))
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

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/vault_plan.h"

#include "cofferctl/vault_policy.h"
#include "cofferctl/vault_roles.h"
#include "vault/transit.h"

#define DESCRIPTION      "Coffer: keys of encrypted volumes"
#define ACCESSOR_UNKNOWN "known-once-it-is-enabled"

void vault_plan_free(struct vault_plan *p)
{
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->n; i++)
        json_decref(p->items[i].wanted);
    free(p);
}

static int plan_new(struct vault_plan **ret, struct error *err)
{
    *ret = calloc(1, sizeof(**ret));
    return *ret == NULL ? error_memory(err) : 0;
}

/* `wanted` is taken. */
static int add(struct vault_plan *p, enum vault_item_kind kind, json_t *wanted, struct error *err,
               const char *fmt, ...) PRINTF_LIKE(5, 6);
static int add(struct vault_plan *p, enum vault_item_kind kind, json_t *wanted, struct error *err,
               const char *fmt, ...)
{
    struct vault_item *item = &p->items[p->n];
    va_list args;

    if (wanted == NULL || p->n == VAULT_PLAN_MAX) {
        json_decref(wanted);
        return error_memory(err);
    }
    p->n++;
    item->kind = kind;
    item->wanted = wanted;
    va_start(args, fmt);
    int n = vsnprintf(item->path, sizeof(item->path), fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(item->path))
        return error_set(err, ERR_INVALID, "a path in Vault is longer than %u bytes",
                         VAULT_PATH_MAX);
    return 0;
}

static void needs(struct vault_plan *p, const char *before, const char *mount)
{
    struct vault_item *item = &p->items[p->n - 1];

    (void)snprintf(item->needs, sizeof(item->needs), "%s%s", before, mount);
}

/* ---- mounts ---- */

static int add_mounts(const struct vault_layout *l, struct vault_plan *p, struct error *err)
{
    if (l->transit[0] != '\0' &&
        add(p, ITEM_ENGINE, json_pack("{s:s, s:s}", "type", "transit", "description", DESCRIPTION),
            err, "%s", l->transit) < 0)
        return -1;
    if (l->kv[0] != '\0' && add(p, ITEM_ENGINE,
                                json_pack("{s:s, s:s, s:{s:s}}", "type", "kv", "description",
                                          DESCRIPTION, "options", "version", "2"),
                                err, "%s", l->kv) < 0)
        return -1;
    if (l->method[0] != '\0' &&
        add(p, ITEM_LOGIN, json_pack("{s:s, s:s}", "type", l->method, "description", DESCRIPTION),
            err, "%s", l->login) < 0)
        return -1;
    return 0;
}

int vault_plan_mounts(const struct vault_layout *l, struct vault_plan **ret, struct error *err)
{
    AUTO_VAULT_PLAN struct vault_plan *p = NULL;

    if (plan_new(&p, err) < 0 || add_mounts(l, p, err) < 0)
        return -1;
    *ret = TAKE_PTR(p);
    return 0;
}

/* ---- settings of mounts ---- */

static const char *by_hand(const struct vault_method *m)
{
    if (strcmp(m->name, "kubernetes") == 0)
        return "say where the Kubernetes API is: --kubernetes-host, or vault write auth/.../config";
    return "say whose tokens it takes: vault write auth/.../config oidc_discovery_url=...";
}

static json_t *login_settings(const struct vault_layout *l)
{
    json_t *wanted = json_object();

    if (l->kubernetes_host != NULL)
        (void)json_object_set_new(wanted, "kubernetes_host", json_string(l->kubernetes_host));
    if (l->kubernetes_ca_text != NULL) {
        (void)json_object_set_new(wanted, "kubernetes_ca_cert", json_string(l->kubernetes_ca_text));
        (void)json_object_set_new(wanted, "disable_local_ca_jwt", json_true());
    }
    return wanted;
}

static int add_login_settings(const struct vault_layout *l, const struct vault_method *m,
                              struct vault_plan *p, struct error *err)
{
    if (m == NULL || m->config == NULL)
        return 0;
    if (add(p, ITEM_SETTINGS, login_settings(l), err, "auth/%s/%s", l->login, m->config) < 0)
        return -1;
    needs(p, "auth/", l->login);
    if (json_object_size(p->items[p->n - 1].wanted) == 0)
        p->items[p->n - 1].by_hand = by_hand(m);
    return 0;
}

/* No key is made by encrypting under a name that doesn't exist; no secret is replaced blindly, none
 * goes by itself. */
static int add_engine_settings(const struct vault_layout *l, struct vault_plan *p,
                               struct error *err)
{
    if (l->transit[0] != '\0') {
        if (add(p, ITEM_SETTINGS, json_pack("{s:b}", "disable_upsert", 1), err, "%s/config/keys",
                l->transit) < 0)
            return -1;
        needs(p, "", l->transit);
    }
    if (l->kv[0] != '\0') {
        if (add(p, ITEM_SETTINGS,
                json_pack("{s:b, s:s}", "cas_required", 1, "delete_version_after", "0s"), err,
                "%s/config", l->kv) < 0)
            return -1;
        needs(p, "", l->kv);
    }
    return 0;
}

/* What devices encrypt their sessions for. */
static int add_server_key(const struct vault_layout *l, struct vault_plan *p, struct error *err)
{
    if (l->transit[0] == '\0' || l->server_name[0] == '\0')
        return 0;
    if (add(p, ITEM_SERVER_KEY, transit_create_rsa_body(), err, "%s/keys/%s", l->transit,
            l->server_name) < 0)
        return -1;
    needs(p, "", l->transit);
    p->items[p->n - 1].by_hand =
        "it can't be changed: name another server_key in the configuration";
    return 0;
}

/* ---- policies ---- */

/* The files of deploy/vault. */
static const struct policy {
    const char *name;
    bool names_tenant; /* it names the tenant of a login */
} policies[] = {
    { "controller", false }, { "node", false },      { "node-rekey", false },
    { "node-tenant", true }, { "scheduler", false }, { "rotation", false },
    { "trim", false },
};

static const char *given(const char *text)
{
    return text[0] == '\0' ? NULL : text;
}

static int add_policy(const struct vault_layout *l, const char *folder, const char *accessor,
                      const char *name, struct vault_plan *p, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(VAULT_POLICY_MAX);
    AUTO_STRBUF struct strbuf filled = STRBUF_INIT(VAULT_POLICY_MAX);
    bool transit = l->transit[0] != '\0';
    const struct vault_placeholder items[] = {
        { "TRANSIT", given(l->transit) },
        { "TENANT_KEY", given(l->tenant_key) },
        { "SERVER_KEY", transit ? l->server_key : NULL },
        { "KV", given(l->kv) },
        { "KV_PREFIX", given(l->kv_prefix) },
        { "ACCESSOR", accessor[0] == '\0' ? ACCESSOR_UNKNOWN : accessor },
    };
    /* nobody makes a tenant's key on the way: the file says to leave this block out */
    bool no_new_keys = l->tenants_listed && strcmp(name, "controller") == 0;
    const struct vault_substitution s = { items, ARRAY_SIZE(items),
                                          no_new_keys ? "@TRANSIT@/keys/+" : NULL };

    if (vault_policy_read(folder, name, &text, err) < 0)
        return -1;
    if (vault_policy_fill(strbuf_text(&text), &s, &filled, err) < 0)
        return error_prefix(err, "policy '%s' in '%s'", name, folder);
    return add(p, ITEM_POLICY, json_pack("{s:s}", "policy", strbuf_text(&filled)), err, "%s%s",
               l->prefix, name);
}

static int add_policies(const struct vault_layout *l, const char *folder, const char *accessor,
                        struct vault_plan *p, struct error *err)
{
    const struct vault_method *m = vault_method_find(l->method);

    for (size_t i = 0; i < ARRAY_SIZE(policies); i++) {
        if (policies[i].names_tenant && (m == NULL || !m->names_tenant))
            continue;
        if (add_policy(l, folder, accessor, policies[i].name, p, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- roles ---- */

static int add_roles(const struct vault_layout *l, const struct vault_method *m,
                     struct vault_plan *p, struct error *err)
{
    for (size_t i = 0; m != NULL && i < vault_n_roles; i++) {
        const struct vault_role *role = &vault_roles[i];
        char name[VAULT_ROLE_NAME_SIZE];
        if (!vault_role_wanted(l, role))
            continue;
        vault_role_name(l, role, name);
        if (add(p, ITEM_ROLE, m->body(l, role), err, "auth/%s/%s/%s", l->login, m->section, name) <
            0)
            return -1;
        needs(p, "auth/", l->login);
    }
    return 0;
}

int vault_plan_rest(const struct vault_layout *l, const char *folder, const char *accessor,
                    struct vault_plan **ret, struct error *err)
{
    AUTO_VAULT_PLAN struct vault_plan *p = NULL;
    const struct vault_method *m = vault_method_find(l->method);

    if (plan_new(&p, err) < 0 || add_engine_settings(l, p, err) < 0 ||
        add_server_key(l, p, err) < 0 || add_policies(l, folder, accessor, p, err) < 0 ||
        add_login_settings(l, m, p, err) < 0 || add_roles(l, m, p, err) < 0)
        return -1;
    *ret = TAKE_PTR(p);
    return 0;
}

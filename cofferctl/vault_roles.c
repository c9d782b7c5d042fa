/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/vault_roles.h"

#define NAME_MAX_ 256u

const struct vault_role vault_roles[] = {
    { "controller", { "controller" }, false },  { "node", { "node" }, false },
    { "scheduler", { "scheduler" }, false },    { "rotation", { "rotation" }, false },
    { "host", { "controller", "node" }, true },
};
const size_t vault_n_roles = ARRAY_SIZE(vault_roles);

/* ---- what every method's role says of the tokens ---- */

static json_t *policies_of(const struct vault_layout *l, const struct vault_role *role)
{
    json_t *list = json_array();

    for (size_t i = 0; i < VAULT_ROLE_POLICIES && role->policies[i] != NULL; i++)
        (void)json_array_append_new(list, json_sprintf("%s%s", l->prefix, role->policies[i]));
    return list;
}

/* Without the default policy, which allows things we don't need; used as often as we like. */
static json_t *with_token(const struct vault_layout *l, const struct vault_role *role, json_t *body)
{
    json_t *token = json_pack("{s:o, s:b, s:i, s:i, s:i}", "token_policies", policies_of(l, role),
                              "token_no_default_policy", 1, "token_ttl", VAULT_TOKEN_TTL_S,
                              "token_num_uses", 0, "token_period", 0);

    (void)json_object_update(body, token);
    json_decref(token);
    return body;
}

static const char *account(const struct vault_layout *l, const struct vault_role *role,
                           char ret[NAME_MAX_])
{
    (void)snprintf(ret, NAME_MAX_, "%s%s", l->prefix, role->name);
    return ret;
}

/* ---- the methods ---- */

static json_t *kubernetes_body(const struct vault_layout *l, const struct vault_role *role)
{
    char name[NAME_MAX_];

    return with_token(l, role,
                      json_pack("{s:[s], s:[s], s:s, s:s, s:s}", "bound_service_account_names",
                                account(l, role, name), "bound_service_account_namespaces",
                                l->service_namespace, "bound_service_account_namespace_selector",
                                "", "audience", l->audience, "alias_name_source",
                                "serviceaccount_uid"));
}

static json_t *jwt_body(const struct vault_layout *l, const struct vault_role *role)
{
    char name[NAME_MAX_];
    json_t *body = json_pack("{s:s, s:s, s:[s], s:{s:s}}", "role_type", "jwt", "user_claim", "sub",
                             "bound_audiences", l->audience, "claim_mappings",
                             "/kubernetes.io/namespace", "service_account_namespace");

    (void)json_object_set_new(
        body, "bound_subject",
        json_sprintf("system:serviceaccount:%s:%s", l->service_namespace, account(l, role, name)));
    return with_token(l, role, body);
}

/* The secret id is used for every login of a process: it isn't used up. */
static json_t *approle_body(const struct vault_layout *l, const struct vault_role *role)
{
    return with_token(l, role,
                      json_pack("{s:b, s:i}", "bind_secret_id", 1, "secret_id_num_uses", 0));
}

/* Without --client-ca (only `check` goes without) whose certificates it takes isn't looked at. */
static json_t *cert_body(const struct vault_layout *l, const struct vault_role *role)
{
    char name[NAME_MAX_];
    json_t *body = json_pack("{s:[s]}", "allowed_common_names", account(l, role, name));

    if (l->client_ca_text != NULL)
        (void)json_object_set_new(body, "certificate", json_string(l->client_ca_text));
    return with_token(l, role, body);
}

static const struct vault_method methods[] = {
    { "kubernetes", "role", true, false, "config", kubernetes_body },
    { "jwt", "role", true, false, "config", jwt_body },
    { "approle", "role", false, true, NULL, approle_body },
    { "cert", "certs", false, true, NULL, cert_body },
};

const struct vault_role *vault_role_find(const char *name)
{
    for (size_t i = 0; i < vault_n_roles; i++) {
        if (strcmp(vault_roles[i].name, name) == 0)
            return &vault_roles[i];
    }
    return NULL;
}

const struct vault_method *vault_method_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
        if (strcmp(methods[i].name, name) == 0)
            return &methods[i];
    }
    return NULL;
}

bool vault_role_wanted(const struct vault_layout *l, const struct vault_role *role)
{
    const struct vault_method *m = vault_method_find(l->method);

    for (size_t i = 0; i < l->roles.len; i++) {
        if (strcmp(l->roles.items[i], role->name) == 0)
            return true;
    }
    return l->roles.len == 0 && m != NULL && (!role->host || m->hosts);
}

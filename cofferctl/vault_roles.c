/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/vault_roles.h"

const struct vault_role vault_roles[] = {
    { .name = "controller", .policies = { "controller" } },
    { .name = "node", .policies = { "node" } },
    { .name = "scheduler", .policies = { "scheduler" } },
    { .name = "rotation", .policies = { "rotation" } },
    { .name = "host", .policies = { "controller", "node", "scheduler" }, .host = true },
    { .name = "pod", .policies = { "node-tenant" }, .pods = true },
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
                              "token_no_default_policy", 1, "token_ttl",
                              role->pods ? VAULT_POD_TTL_S : VAULT_TOKEN_TTL_S, "token_num_uses", 0,
                              "token_period", 0);

    (void)json_object_update(body, token);
    json_decref(token);
    return body;
}

void vault_role_name(const struct vault_layout *l, const struct vault_role *role,
                     char ret[VAULT_ROLE_NAME_SIZE])
{
    if (role->pods)
        (void)snprintf(ret, VAULT_ROLE_NAME_SIZE, "%s", l->pod_role);
    else
        (void)snprintf(ret, VAULT_ROLE_NAME_SIZE, "%s%s", l->prefix, role->name);
}

/* The service account; kubernetes: "*" is any. */
static const char *account(const struct vault_layout *l, const struct vault_role *role,
                           char ret[VAULT_ROLE_NAME_SIZE])
{
    if (role->pods)
        return "*";
    (void)snprintf(ret, VAULT_ROLE_NAME_SIZE, "%s%s", l->prefix, role->name);
    return ret;
}

/* ---- the methods ---- */

static json_t *kubernetes_body(const struct vault_layout *l, const struct vault_role *role)
{
    char name[VAULT_ROLE_NAME_SIZE];

    return with_token(l, role,
                      json_pack("{s:[s], s:[s], s:s, s:s, s:s}", "bound_service_account_names",
                                account(l, role, name), "bound_service_account_namespaces",
                                role->pods ? "*" : l->service_namespace,
                                "bound_service_account_namespace_selector", "", "audience",
                                l->audience, "alias_name_source", "serviceaccount_uid"));
}

static json_t *jwt_body(const struct vault_layout *l, const struct vault_role *role)
{
    char name[VAULT_ROLE_NAME_SIZE];
    json_t *body = json_pack("{s:s, s:s, s:[s], s:{s:s}}", "role_type", "jwt", "user_claim", "sub",
                             "bound_audiences", l->audience, "claim_mappings",
                             "/kubernetes.io/namespace", "service_account_namespace");

    if (!role->pods)
        (void)json_object_set_new(body, "bound_subject",
                                  json_sprintf("system:serviceaccount:%s:%s", l->service_namespace,
                                               account(l, role, name)));
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
    char name[VAULT_ROLE_NAME_SIZE];
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

bool vault_pods_log_in_here(const struct vault_layout *l)
{
    const struct vault_method *m = vault_method_find(l->method);

    return l->pod_role[0] != '\0' && m != NULL && m->names_tenant &&
           strcmp(l->login, l->pod_mount) == 0;
}

bool vault_role_wanted(const struct vault_layout *l, const struct vault_role *role)
{
    const struct vault_method *m = vault_method_find(l->method);

    for (size_t i = 0; i < l->roles.len; i++) {
        if (strcmp(l->roles.items[i], role->name) == 0)
            return true;
    }
    if (role->pods && !vault_pods_log_in_here(l))
        return false;
    return l->roles.len == 0 && m != NULL && (!role->host || m->hosts);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/vault_layout.h"

#include "cofferctl/vault_roles.h"
#include "common/strbuf.h"

static int add_transit(struct vault_layout *l, const struct kms_config *kms, struct error *err)
{
    const struct kms_vault_config *v = kms->vault;
    const char *mark = strstr(v->name, CONFIG_TENANT_MARK);
    size_t len = mark == NULL ? strlen(v->name) : (size_t)(mark - v->name);

    if (l->transit[0] != '\0')
        return error_set(err, ERR_INVALID,
                         "key service '%s' is a second transit one: name one with --kms",
                         kms->name);
    if (mark != NULL && mark[strlen(CONFIG_TENANT_MARK)] != '\0')
        return error_set(err, ERR_INVALID,
                         "key service '%s': a policy can't name keys like '%s': " CONFIG_TENANT_MARK
                         " must come last",
                         kms->name, v->name);
    if (len == 0)
        return error_set(err, ERR_INVALID,
                         "key service '%s': something must stand before " CONFIG_TENANT_MARK
                         ", or its policies would be for all keys of the mount",
                         kms->name);
    memcpy(l->tenant_key, v->name, len);
    l->tenant_key[len] = '\0';
    l->one_key = mark == NULL;
    l->tenants_listed = v->tenants_listed;
    if (str_copy(l->server_name, sizeof(l->server_name), v->server_key) < 0 ||
        str_copy(l->pod_role, sizeof(l->pod_role), v->auth.pod_role) < 0 ||
        str_copy(l->pod_mount, sizeof(l->pod_mount), v->auth.pod_mount) < 0)
        return error_set(err, ERR_INTERNAL, "key service '%s': its names are too long", kms->name);
    return str_copy(l->transit, sizeof(l->transit), v->mount);
}

static int add_kv(struct vault_layout *l, const struct kms_config *kms, struct error *err)
{
    if (l->kv[0] != '\0')
        return error_set(err, ERR_INVALID,
                         "key service '%s' is a second KV one: name one with --kms", kms->name);
    if (str_copy(l->kv, sizeof(l->kv), kms->vault->mount) < 0 ||
        str_copy(l->kv_prefix, sizeof(l->kv_prefix), kms->vault->name) < 0)
        return error_set(err, ERR_INTERNAL, "key service '%s': its names are too long", kms->name);
    return 0;
}

int vault_layout_add(struct vault_layout *l, const struct kms_config *kms, struct error *err)
{
    if (kms->kind == KMS_VAULT_TRANSIT)
        return add_transit(l, kms, err);
    if (kms->kind == KMS_VAULT_KV)
        return add_kv(l, kms, err);
    return error_set(err, ERR_INVALID, "key service '%s' (%s) is not Vault's", kms->name, kms->uri);
}

/* Its policy names the accessor of the login method that is set up here. */
static int check_pod_role(const struct vault_layout *l, struct error *err)
{
    if (l->pod_role[0] == '\0')
        return error_set(err, ERR_INVALID,
                         "--role pod: the key service has no 'pod_role' in its 'auth'");
    if (!vault_pods_log_in_here(l))
        return error_set(err, ERR_INVALID,
                         "--role pod: pods log in at auth/%s, not at auth/%s: give --auth and "
                         "--auth-mount for it",
                         l->pod_mount, l->login);
    return 0;
}

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

int vault_layout_check(const struct vault_layout *l, struct error *err)
{
    if (l->prefix[0] == '\0')
        return error_set(err, ERR_INVALID, "--prefix must not be empty");
    if (l->transit[0] != '\0' &&
        (begins(l->server_key, l->tenant_key) || begins(l->tenant_key, l->server_key)))
        return error_set(err, ERR_INVALID,
                         "--server-key '%s' and the tenants' keys '%s...' must not begin alike: "
                         "a policy for the ones would be for the others too",
                         l->server_key, l->tenant_key);
    if (l->server_name[0] != '\0' && !begins(l->server_name, l->server_key))
        return error_set(err, ERR_INVALID,
                         "server key '%s' doesn't begin with '%s' (--server-key): no policy would "
                         "be for it",
                         l->server_name, l->server_key);
    if (l->transit[0] != '\0' && strcmp(l->transit, l->kv) == 0)
        return error_set(err, ERR_INVALID, "transit and KV can't both be mounted at '%s'",
                         l->transit);
    for (size_t i = 0; i < l->roles.len; i++) {
        if (vault_role_find(l->roles.items[i]) == NULL)
            return error_set(err, ERR_INVALID,
                             "--role '%s' is none of controller, node, scheduler, rotation, host, "
                             "pod",
                             l->roles.items[i]);
        if (vault_role_find(l->roles.items[i])->pods && check_pod_role(l, err) < 0)
            return -1;
    }
    return 0;
}

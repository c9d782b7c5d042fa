/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/params.h"

#include "common/parse.h"
#include "common/strbuf.h"

/* What the parameters say, before the configuration fills the gaps. NULL: not given. */
struct given {
    const char *pool, *kms, *key_source, *discard, *integrity, *tenant, *identity;
    /* external-provisioner --extra-create-metadata */
    const char *pvc_name, *pvc_namespace, *pv_name;
};

static const struct {
    const char *key;
    size_t at; /* in struct given */
} known[] = {
    { "pool", offsetof(struct given, pool) },
    { "kms", offsetof(struct given, kms) },
    { "keySource", offsetof(struct given, key_source) },
    { "discard", offsetof(struct given, discard) },
    { "integrity", offsetof(struct given, integrity) },
    { "tenant", offsetof(struct given, tenant) },
    { "tenantIdentity", offsetof(struct given, identity) },
    { "csi.storage.k8s.io/pvc/name", offsetof(struct given, pvc_name) },
    { "csi.storage.k8s.io/pvc/namespace", offsetof(struct given, pvc_namespace) },
    { "csi.storage.k8s.io/pv/name", offsetof(struct given, pv_name) },
};

static const char **slot_of(struct given *g, const char *key)
{
    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (strcmp(known[i].key, key) == 0)
            return (const char **)(void *)((char *)g + known[i].at);
    return NULL;
}

static int gather(const struct param *params, size_t n, struct given *ret, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        const char **slot = slot_of(ret, params[i].key);

        if (slot == NULL)
            return error_set(err, ERR_INVALID, "unknown parameter '%s'", params[i].key);
        if (*slot != NULL)
            return error_set(err, ERR_INVALID, "parameter '%s' comes twice", params[i].key);
        *slot = params[i].value;
    }
    return 0;
}

static int choose_pool(const struct config *c, const struct given *g, struct volume_params *p,
                       struct error *err)
{
    if (g->pool != NULL)
        p->pool = config_pool(c, g->pool);
    else
        p->pool = c->n_pools == 1 ? &c->pools[0] : config_pool(c, "default");
    if (p->pool != NULL)
        return 0;
    if (g->pool != NULL)
        return error_set(err, ERR_INVALID, "parameter 'pool': there is no pool '%s'", g->pool);
    return error_set(err, ERR_INVALID,
                     "parameter 'pool' is missing, and no pool has the name 'default'");
}

static int choose_kms(const struct given *g, struct volume_params *p, struct error *err)
{
    const char *kms = g->kms != NULL ? g->kms : p->pool->kms[0];

    if (!pool_allows_kms(p->pool, kms) || str_copy(p->kms, sizeof(p->kms), kms) < 0)
        return error_set(err, ERR_INVALID, "parameter 'kms': pool '%s' does not allow the kms '%s'",
                         p->pool->name, kms);
    return 0;
}

/* A device's session is opened by the key service, with an RSA key of its own. */
static int check_client_service(const struct config *c, const char *name, struct error *err)
{
    const struct kms_config *kms = config_kms(c, name);

    if (kms != NULL && kms->kind == KMS_VAULT_TRANSIT && kms->vault->server_key[0] != '\0')
        return 0;
    return error_set(
        err, ERR_INVALID,
        "parameter 'keySource' can't be client: key service '%s' isn't hcvault:// with "
        "a 'server_key', the RSA key that devices make their sessions for",
        name);
}

static int choose_key_source(const struct config *c, const struct given *g, struct volume_params *p,
                             struct error *err)
{
    const char *source = g->key_source != NULL ? g->key_source : KEY_SOURCE_VAULT;
    bool client = strcmp(source, KEY_SOURCE_CLIENT) == 0;

    if (!client && strcmp(source, KEY_SOURCE_VAULT) != 0)
        return error_set(err, ERR_INVALID,
                         "parameter 'keySource' must be vault or client, not '%s'", source);
    if (client && check_client_service(c, p->kms, err) < 0)
        return -1;
    return str_copy(p->key_source, sizeof(p->key_source), source);
}

static int choose_discard(const struct given *g, struct volume_params *p, struct error *err)
{
    if (g->discard != NULL && parse_bool(g->discard, &p->discard) < 0)
        return error_set(err, ERR_INVALID, "parameter 'discard' must be true or false, not '%s'",
                         g->discard);
    if (p->discard && !pool_is_sparse(p->pool))
        return error_set(
            err, ERR_INVALID,
            "parameter 'discard' can't be true: pool '%s' allocates its volumes in full",
            p->pool->name);
    return 0;
}

static int check_integrity(const struct given *g, struct error *err)
{
    if (g->integrity == NULL || strcmp(g->integrity, "none") == 0)
        return 0;
    return error_set(err, ERR_INVALID, "parameter 'integrity' must be none, not '%s'",
                     g->integrity);
}

/* In this order: the class, the claim's namespace, the configuration. */
static int choose_tenant(const struct config *c, const struct given *g, struct volume_params *p,
                         struct error *err)
{
    const char *from = "parameter 'tenant'", *tenant = g->tenant;

    if (tenant == NULL) {
        from = "parameter 'csi.storage.k8s.io/pvc/namespace'";
        tenant = g->pvc_namespace;
    }
    if (tenant == NULL && c->default_tenant[0] != '\0') {
        from = "'default_tenant' of the configuration";
        tenant = c->default_tenant;
    }
    if (tenant == NULL)
        return error_set(
            err, ERR_INVALID,
            "no tenant: neither parameter 'tenant' nor the claim's namespace is given, "
            "and the configuration has no 'default_tenant'");
    if (!tenant_valid(tenant) || str_copy(p->tenant, sizeof(p->tenant), tenant) < 0)
        return error_set(err, ERR_INVALID, "%s must be 1 to 63 of a-z, 0-9 and '-', not '%s'", from,
                         tenant);
    return 0;
}

/* With a login that isn't its own, a volume can be opened only where the key service takes such. */
static int check_pod_service(const struct config *c, const char *name, struct error *err)
{
    const struct kms_config *kms = config_kms(c, name);

    if (kms == NULL)
        return error_set(err, ERR_INVALID, "there is no key service '%s'", name);
    if (kms->kind != KMS_VAULT_TRANSIT)
        return error_set(
            err, ERR_INVALID,
            "parameter 'tenantIdentity' can't be pod: key service '%s' isn't "
            "hcvault:// (transit), so Vault can't tell one tenant's keys from another's",
            name);
    if (kms->vault->auth.pod_role[0] == '\0')
        return error_set(err, ERR_INVALID,
                         "parameter 'tenantIdentity' can't be pod: key service '%s' has no "
                         "'pod_role' in its 'auth', the Vault role that pods' tokens log in with",
                         name);
    return 0;
}

/* A pod's token names the claim's namespace and nothing else, so a volume of another tenant would
 * open for nobody. */
static int check_pod_tenant(const struct given *g, const struct volume_params *p, struct error *err)
{
    if (g->tenant == NULL && g->pvc_namespace == NULL)
        return error_set(err, ERR_INVALID,
                         "parameter 'tenantIdentity' is pod, so the tenant must be the claim's "
                         "namespace: csi-provisioner needs --extra-create-metadata");
    if (g->pvc_namespace != NULL && strcmp(g->pvc_namespace, p->tenant) != 0)
        return error_set(err, ERR_INVALID,
                         "parameter 'tenant' is '%s', but with tenantIdentity pod it can only be "
                         "the claim's namespace, '%s'",
                         p->tenant, g->pvc_namespace);
    return 0;
}

static int choose_identity(const struct config *c, const struct given *g, struct volume_params *p,
                           struct error *err)
{
    const char *identity = g->identity != NULL ? g->identity : IDENTITY_NODE;

    p->pod = strcmp(identity, IDENTITY_POD) == 0;
    if (!p->pod && strcmp(identity, IDENTITY_NODE) != 0)
        return error_set(err, ERR_INVALID,
                         "parameter 'tenantIdentity' must be node or pod, not '%s'", identity);
    if (!p->pod)
        return 0;
    if (strcmp(p->key_source, KEY_SOURCE_CLIENT) == 0)
        return error_set(err, ERR_INVALID,
                         "parameter 'tenantIdentity' can't be pod with keySource client: the "
                         "device's session opens the volume, no pod's token does");
    return check_pod_service(c, p->kms, err) < 0 ? -1 : check_pod_tenant(g, p, err);
}

/* The node's own login wraps the key for it, and never does so for a volume that pods open; a
 * device's key it doesn't have. */
static int check_escrow(const struct volume_params *p, struct error *err)
{
    bool client = strcmp(p->key_source, KEY_SOURCE_CLIENT) == 0;

    if ((!p->pod && !client) || p->pool->escrow[0] == '\0')
        return 0;
    if (client)
        return error_set(err, ERR_INVALID,
                         "parameter 'keySource' can't be client: pool '%s' has an escrow key, for "
                         "which a node wraps each volume's key, and a device's it doesn't have",
                         p->pool->name);
    return error_set(err, ERR_INVALID,
                     "parameter 'tenantIdentity' can't be pod: pool '%s' has an escrow key, for "
                     "which a node wraps each volume's key by its own login",
                     p->pool->name);
}

int volume_params_decode(const struct config *config, const struct param *params, size_t n,
                         struct volume_params *ret, struct error *err)
{
    struct given g = { .pool = NULL };
    struct volume_params p = { .pool = NULL };

    if (gather(params, n, &g, err) < 0 || choose_pool(config, &g, &p, err) < 0 ||
        choose_kms(&g, &p, err) < 0 || choose_key_source(config, &g, &p, err) < 0 ||
        choose_discard(&g, &p, err) < 0 || check_integrity(&g, err) < 0 ||
        choose_tenant(config, &g, &p, err) < 0 || choose_identity(config, &g, &p, err) < 0 ||
        check_escrow(&p, err) < 0)
        return -1;
    *ret = p;
    return 0;
}

void volume_context_decode(const struct param *items, size_t n, struct record_claim *ret)
{
    struct record_claim claim = { .id = NULL };
    const struct {
        const char *key;
        const char **target;
    } rows[] = {
        { CONTEXT_TENANT, &claim.tenant },   { CONTEXT_UUID, &claim.uuid },
        { CONTEXT_KMS, &claim.kms },         { CONTEXT_KEY_SOURCE, &claim.key_source },
        { CONTEXT_DISCARD, &claim.discard }, { CONTEXT_IDENTITY, &claim.identity },
    };
    bool ours = false;

    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < ARRAY_SIZE(rows); k++)
            if (strcmp(items[i].key, rows[k].key) == 0) {
                *rows[k].target = items[i].value;
                ours = true;
            }
    if (ours && claim.discard == NULL)
        claim.discard = "false";
    if (ours && claim.identity == NULL)
        claim.identity = IDENTITY_NODE;
    *ret = claim;
}

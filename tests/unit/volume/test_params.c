/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/params.h"

#include "tests/support/unit.h"

#define PVC_NAMESPACE "csi.storage.k8s.io/pvc/namespace"

static struct pool_config pools[] = {
    { .name = "fast",
      .backend = "file",
      .path = "/f",
      .kms = { "lab", "second" },
      .n_kms = 2,
      .allocate = "full" },
    { .name = "default",
      .backend = "file",
      .path = "/d",
      .kms = { "second" },
      .n_kms = 1,
      .allocate = "full" },
};
static struct kms_config kms[] = { { .name = "lab", .uri = "file:///a" },
                                   { .name = "second", .uri = "file:///b" },
                                   { .name = "third", .uri = "file:///c" } };
static const struct config two = {
    .pools = pools, .n_pools = 2, .kms = kms, .n_kms = 3, .default_tenant = "lab-tenant"
};
static const struct config one = { .pools = pools, .n_pools = 1, .kms = kms, .n_kms = 3 };

#define DECODE(c, ...)                                               \
    volume_params_decode((c), (const struct param[]){ __VA_ARGS__ }, \
                         ARRAY_SIZE(((const struct param[]){ __VA_ARGS__ })), &p, &err)

static void test_gaps(void **state UNUSED)
{
    struct volume_params p;

    assert_works(volume_params_decode(&two, NULL, 0, &p, &err));
    assert_string_equal(p.pool->name, "default");
    assert_string_equal(p.kms, "second");
    assert_string_equal(p.key_source, "vault");
    assert_string_equal(p.tenant, "lab-tenant");
    assert_false(p.discard);
    assert_works(DECODE(&one, { "tenant", "t" }));
    assert_string_equal(p.pool->name, "fast"); /* the only one */
    assert_string_equal(p.kms, "lab");         /* its first */
}

static void test_given(void **state UNUSED)
{
    struct volume_params p;

    assert_works(DECODE(&two, { "pool", "fast" }, { "kms", "second" }, { "keySource", "vault" },
                        { "discard", "false" }, { "integrity", "none" }, { "tenant", "team-a" },
                        { "csi.storage.k8s.io/pvc/name", "claim" }, { PVC_NAMESPACE, "ns" },
                        { "csi.storage.k8s.io/pv/name", "pvc-1" }));
    assert_ptr_equal(p.pool, &pools[0]);
    assert_string_equal(p.kms, "second");
    assert_string_equal(p.tenant, "team-a");
    assert_works(DECODE(&two, { PVC_NAMESPACE, "ns" }));
    assert_string_equal(p.tenant, "ns"); /* before the default */
}

static void test_refused(void **state UNUSED)
{
    struct volume_params p = { .kms = "old" };

    assert_fails(DECODE(&two, { "Pool", "fast" }), ERR_INVALID, "unknown parameter 'Pool'");
    assert_fails(DECODE(&two, { "csi.storage.k8s.io/fstype", "ext4" }), ERR_INVALID,
                 "unknown parameter 'csi.storage.k8s.io/fstype'");
    assert_fails(DECODE(&two, { "", "" }), ERR_INVALID, "unknown parameter ''");
    assert_fails(DECODE(&two, { "pool", "fast" }, { "pool", "fast" }), ERR_INVALID,
                 "parameter 'pool' comes twice");
    assert_fails(DECODE(&two, { "pool", "slow" }), ERR_INVALID,
                 "parameter 'pool': there is no pool 'slow'");
    assert_fails(DECODE(&one, { "pool", "" }, { "tenant", "t" }), ERR_INVALID,
                 "parameter 'pool': there is no pool ''");
    assert_fails(DECODE(&two, { "kms", "lab" }), ERR_INVALID,
                 "parameter 'kms': pool 'default' does not allow the kms 'lab'");
    assert_fails(DECODE(&two, { "pool", "fast" }, { "kms", "third" }), ERR_INVALID,
                 "parameter 'kms': pool 'fast' does not allow the kms 'third'");
    assert_fails(
        DECODE(&two, { "keySource", "client" }), ERR_INVALID,
        "parameter 'keySource' can't be client: key service 'second' isn't hcvault:// with "
        "a 'server_key', the RSA key that devices make their sessions for");
    assert_fails(DECODE(&two, { "keySource", "" }), ERR_INVALID,
                 "parameter 'keySource' must be vault or client, not ''");
    assert_fails(DECODE(&two, { "discard", "yes" }), ERR_INVALID,
                 "parameter 'discard' must be true or false, not 'yes'");
    assert_fails(DECODE(&two, { "discard", "true" }), ERR_INVALID,
                 "parameter 'discard' can't be true: pool 'default' allocates its volumes in full");
    assert_fails(DECODE(&two, { "integrity", "hmac-sha256" }), ERR_INVALID,
                 "parameter 'integrity' must be none, not 'hmac-sha256'");
    assert_string_equal(p.kms, "old");
}

static void test_discard(void **state UNUSED)
{
    struct pool_config sparse[2] = { pools[0], pools[1] };
    const struct config c = {
        .pools = sparse, .n_pools = 2, .kms = kms, .n_kms = 3, .default_tenant = "t"
    };
    struct volume_params p = { .discard = false };

    (void)snprintf(sparse[1].allocate, sizeof(sparse[1].allocate), "sparse");
    assert_works(DECODE(&c, { "pool", sparse[1].name }, { "discard", "true" }));
    assert_true(p.discard);
    assert_works(DECODE(&c, { "pool", sparse[1].name }));
    assert_false(p.discard);
}

static void test_tenant_refused(void **state UNUSED)
{
    struct volume_params p;

    assert_fails(DECODE(&two, { "tenant", "Team" }), ERR_INVALID,
                 "parameter 'tenant' must be 1 to 63 of a-z, 0-9 and '-', not 'Team'");
    assert_fails(DECODE(&two, { "tenant", "" }), ERR_INVALID, /* not "the default, then" */
                 "parameter 'tenant' must be 1 to 63 of a-z, 0-9 and '-', not ''");
    assert_fails(DECODE(&two, { PVC_NAMESPACE, "a.b" }), ERR_INVALID,
                 "parameter '" PVC_NAMESPACE "' must be 1 to 63 of a-z, 0-9 and '-', not 'a.b'");
    assert_fails(
        volume_params_decode(&one, NULL, 0, &p, &err), ERR_INVALID,
        "no tenant: neither parameter 'tenant' nor the claim's namespace is given, and the "
        "configuration has no 'default_tenant'");
}

/* Both key services of a pool: one whose login for pods is configured, one without. */
static void test_identity(void **state UNUSED)
{
    struct kms_vault_config with = { .auth = { .pod_role = "coffer-pod" } },
                            without = { .name = "" };
    struct kms_config services[3] = { kms[0], kms[1], kms[2] };
    const struct config c = { .pools = pools, .n_pools = 2, .kms = services, .n_kms = 3 };
    struct volume_params p = { .pod = true };

    services[0].kind = services[1].kind = KMS_VAULT_TRANSIT;
    services[0].vault = &with;
    services[1].vault = &without;
#define FAST { "pool", "fast" }
#define POD                     \
    {                           \
        "tenantIdentity", "pod" \
    }
    assert_works(DECODE(&c, FAST, { "tenantIdentity", "node" }, { "tenant", "t" }));
    assert_false(p.pod);
    assert_works(DECODE(&c, FAST, POD, { PVC_NAMESPACE, "ns" }));
    assert_true(p.pod);
    assert_string_equal(p.tenant, "ns");
    assert_works(DECODE(&c, FAST, POD, { PVC_NAMESPACE, "ns" }, { "tenant", "ns" }));
    assert_works(DECODE(&c, FAST, POD, { "tenant", "ns" }));
    assert_fails(DECODE(&c, FAST, { "tenantIdentity", "Pod" }, { "tenant", "t" }), ERR_INVALID,
                 "parameter 'tenantIdentity' must be node or pod, not 'Pod'");
    assert_fails(
        DECODE(&c, FAST, POD, { PVC_NAMESPACE, "ns" }, { "tenant", "t" }), ERR_INVALID,
        "parameter 'tenant' is 't', but with tenantIdentity pod it can only be the claim's "
        "namespace, 'ns'");
    assert_fails(
        DECODE(&c, FAST, POD, { PVC_NAMESPACE, "ns" }, { "kms", "second" }), ERR_INVALID,
        "parameter 'tenantIdentity' can't be pod: key service 'second' has no 'pod_role' in "
        "its 'auth', the Vault role that pods' tokens log in with");
    assert_fails(DECODE(&two, FAST, POD), ERR_INVALID,
                 "parameter 'tenantIdentity' can't be pod: key service 'lab' isn't hcvault:// "
                 "(transit), so Vault can't tell one tenant's keys from another's");
}

/* Who wraps for an escrow key is the node, and a pod's volume opens by the pod's token alone. */
static void test_identity_and_escrow(void **state UNUSED)
{
    struct kms_vault_config with = { .auth = { .pod_role = "coffer-pod" } };
    struct kms_config services[3] = { kms[0], kms[1], kms[2] };
    struct pool_config escrowed = pools[0];
    const struct config c = { .pools = &escrowed, .n_pools = 1, .kms = services, .n_kms = 3 };
    struct volume_params p;

    services[0].kind = KMS_VAULT_TRANSIT;
    services[0].vault = &with;
    assert_works(DECODE(&c, POD, { PVC_NAMESPACE, "ns" }));
    (void)snprintf(escrowed.escrow, sizeof(escrowed.escrow), "/e/k.pem");
    assert_fails(
        DECODE(&c, POD, { PVC_NAMESPACE, "ns" }), ERR_INVALID,
        "parameter 'tenantIdentity' can't be pod: pool 'fast' has an escrow key, for which "
        "a node wraps each volume's key by its own login");
    assert_works(DECODE(&c, { PVC_NAMESPACE, "ns" }));
}

/* The default is for claims that come without a namespace: no pod's token would fit it. */
static void test_identity_needs_the_namespace(void **state UNUSED)
{
    struct kms_vault_config with = { .auth = { .pod_role = "coffer-pod" } };
    struct kms_config service = kms[0];
    const struct config c = {
        .pools = pools, .n_pools = 1, .kms = &service, .n_kms = 1, .default_tenant = "lab-tenant"
    };
    struct volume_params p;

    service.kind = KMS_VAULT_TRANSIT;
    service.vault = &with;
    assert_fails(DECODE(&c, POD), ERR_INVALID,
                 "parameter 'tenantIdentity' is pod, so the tenant must be the claim's namespace: "
                 "csi-provisioner needs --extra-create-metadata");
}

static void test_client(void **state UNUSED)
{
    static struct pool_config escrowed[1];
    escrowed[0] = pools[0];
    struct kms_vault_config with = { .auth = { .pod_role = "coffer-pod" }, .server_key = "s" };
    struct kms_config service = kms[0];
    const struct config c = {
        .pools = pools, .n_pools = 1, .kms = &service, .n_kms = 1, .default_tenant = "t"
    };
    struct config guarded = c;
    struct volume_params p;

    guarded.pools = escrowed;
    service.kind = KMS_VAULT_TRANSIT;
    service.vault = &with;
    assert_works(DECODE(&c, { "keySource", "client" }));
    assert_string_equal(p.key_source, "client");
    assert_fails(
        DECODE(&c, { "keySource", "client" }, { "tenantIdentity", "pod" }, { PVC_NAMESPACE, "ns" }),
        ERR_INVALID,
        "parameter 'tenantIdentity' can't be pod with keySource client: the device's "
        "session opens the volume, no pod's token does");
    (void)snprintf(escrowed[0].escrow, sizeof(escrowed[0].escrow), "/etc/escrow.pem");
    assert_fails(
        DECODE(&guarded, { "keySource", "client" }), ERR_INVALID,
        "parameter 'keySource' can't be client: pool 'fast' has an escrow key, for which a "
        "node wraps each volume's key, and a device's it doesn't have");
    with.server_key[0] = '\0';
    assert_int_equal(
        volume_params_decode(&c, (const struct param[]){ { "keySource", "client" } }, 1, &p, NULL),
        -1);
    assert_works(DECODE(&c, { "keySource", "vault" }));
}

static void test_no_default_pool(void **state UNUSED)
{
    struct pool_config renamed[2] = { pools[0], pools[1] };
    const struct config c = { .pools = renamed, .n_pools = 2, .kms = kms, .n_kms = 3 };
    struct volume_params p;

    (void)snprintf(renamed[1].name, sizeof(renamed[1].name), "slow");
    assert_fails(DECODE(&c, { "tenant", "t" }), ERR_INVALID,
                 "parameter 'pool' is missing, and no pool has the name 'default'");
}

static void test_context(void **state UNUSED)
{
    static const struct param items[] = {
        { "storage.kubernetes.io/csiProvisionerIdentity", "x" },
        { CONTEXT_UUID, "u" },
        { "csi.storage.k8s.io/pod.name", "pod" },
        { CONTEXT_KEY_SOURCE, "vault" },
        { CONTEXT_TENANT, "t" },
        { CONTEXT_KMS, "k" },
        { "id", "not taken from here" },
    };
    static const struct param with_discard[] = { { CONTEXT_UUID, "u" },
                                                 { CONTEXT_IDENTITY, "pod" },
                                                 { CONTEXT_DISCARD, "true" } };
    struct record_claim c = { .id = "left over" };

    volume_context_decode(items, ARRAY_SIZE(items), &c);
    assert_null(c.id);
    assert_string_equal(c.uuid, "u");
    assert_string_equal(c.tenant, "t");
    assert_string_equal(c.kms, "k");
    assert_string_equal(c.key_source, "vault");
    assert_string_equal(c.discard, "false"); /* what a context of ours doesn't say */
    assert_string_equal(c.identity, "node");
    volume_context_decode(with_discard, ARRAY_SIZE(with_discard), &c);
    assert_string_equal(c.discard, "true");
    assert_string_equal(c.identity, "pod");
    volume_context_decode(items, 1, &c); /* nothing of ours: nothing said */
    assert_null(c.discard);
    assert_null(c.identity);
    volume_context_decode(NULL, 0, &c);
    assert_null(c.discard);
    assert_null(c.uuid);
    assert_null(c.tenant);
    assert_null(c.kms);
    assert_null(c.key_source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_identity_needs_the_namespace),
        cmocka_unit_test(test_identity_and_escrow),
        cmocka_unit_test(test_gaps),
        cmocka_unit_test(test_given),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_discard),
        cmocka_unit_test(test_tenant_refused),
        cmocka_unit_test(test_no_default_pool),
        cmocka_unit_test(test_context),
        cmocka_unit_test(test_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

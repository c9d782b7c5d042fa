/* SPDX-License-Identifier: Apache-2.0 */
/* What a StorageClass's parameters make of a volume: its record, its context, what its name stands
 * for. */
#include "common/base.h"
#include "tests/unit/controller/fixture.h"

#define SIZE MIB(20)

static int create(struct rig *r, const struct csi_create_volume_request *req)
{
    struct csi_volume v;

    r->err = (struct error)ERROR_INIT;
    return controller_create(&r->c, &r->call, req, &v, &r->err);
}

/* It goes into record and context, only when it is true, and is part of what a name stands for. */
static void test_discard(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_create_volume_request req = rig_request("pvc-1", "a", SIZE);
    struct csi_pair parameters[] = { { "discard", "true" }, { "pool", "a" } };
    struct csi_volume v;

    rig_make(&r, 1);
    req.parameters = (struct csi_map){ .items = parameters, .n = 2 };
    assert_fails(create(&r, &req), r.err, ERR_INVALID);
    (void)snprintf(r.f.pools[0].allocate, sizeof(r.f.pools[0].allocate), "sparse");
    r.f.pools[0].overcommit = 2;
    r.err = (struct error)ERROR_INIT;
    assert_ok(controller_create(&r.c, &r.call, &req, &v, &r.err), r.err);
    assert_true(rig_record(&r, v.volume_id).discard);
    assert_int_equal(v.volume_context.n, 5);
    assert_string_equal(v.volume_context.items[0].key, "discard");
    assert_string_equal(v.volume_context.items[0].value, "true");
    parameters[0].value = "false";
    assert_fails(create(&r, &req), r.err, ERR_EXISTS);
    assert_non_null(strstr(r.err.msg, "another discard"));
    req.name = "pvc-2";
    r.err = (struct error)ERROR_INIT;
    assert_ok(controller_create(&r.c, &r.call, &req, &v, &r.err), r.err);
    assert_false(rig_record(&r, v.volume_id).discard);
    assert_int_equal(v.volume_context.n, 4);
}

/* So does who opens the volume; raw block has nobody who could. */
static void test_identity(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_create_volume_request req = rig_request("pvc-1", "a", SIZE);
    struct csi_pair parameters[] = { { "csi.storage.k8s.io/pvc/namespace", "team-a" },
                                     { "tenantIdentity", "pod" },
                                     { "pool", "a" } };
    struct kms_vault_config vault = { .auth = { .pod_role = "coffer-pod" } };
    struct csi_capability block = rig_block();
    struct csi_volume v;

    rig_make(&r, 1);
    req.parameters = (struct csi_map){ .items = parameters, .n = 3 };
    assert_fails(create(&r, &req), r.err, ERR_INVALID);
    assert_non_null(strstr(r.err.msg, "isn't hcvault://"));
    r.f.kms[0].kind = KMS_VAULT_TRANSIT;
    r.f.kms[0].vault = &vault;
    req.capabilities.items = &block;
    assert_fails(create(&r, &req), r.err, ERR_INVALID);
    assert_non_null(strstr(r.err.msg, "can't be pod for a raw block volume"));
    req = rig_request("pvc-1", "a", SIZE);
    req.parameters = (struct csi_map){ .items = parameters, .n = 3 };
    r.err = (struct error)ERROR_INIT;
    assert_ok(controller_create(&r.c, &r.call, &req, &v, &r.err), r.err);
    assert_true(rig_record(&r, v.volume_id).pod);
    assert_string_equal(rig_record(&r, v.volume_id).tenant, "team-a");
    assert_int_equal(v.volume_context.n, 5);
    assert_string_equal(v.volume_context.items[3].key, "tenantIdentity");
    assert_string_equal(v.volume_context.items[3].value, "pod");
    parameters[1].value = "node";
    assert_fails(create(&r, &req), r.err, ERR_EXISTS);
    assert_non_null(strstr(r.err.msg, "another tenantIdentity"));
    req.name = "pvc-2";
    r.err = (struct error)ERROR_INIT;
    assert_ok(controller_create(&r.c, &r.call, &req, &v, &r.err), r.err);
    assert_false(rig_record(&r, v.volume_id).pod);
    assert_int_equal(v.volume_context.n, 4);
}

/* The claim's namespace, but for a class that names a tenant; a name that exists is of one tenant.
 */
static void test_tenant(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_create_volume_request req = rig_request("pvc-1", "a", SIZE);
    struct csi_pair parameters[] = { { "csi.storage.k8s.io/pvc/name", "my-claim" },
                                     { "csi.storage.k8s.io/pvc/namespace", "team-a" },
                                     { "csi.storage.k8s.io/pv/name", "pvc-1" },
                                     { "pool", "a" },
                                     { "tenant", "team-b" } };

    rig_make(&r, 1);
    req.parameters = (struct csi_map){ .items = parameters, .n = 4 };
    assert_ok(create(&r, &req), r.err);
    assert_string_equal(keyd.tenant, "team-a");
    assert_ok(create(&r, &req), r.err);
    req.parameters.n = 5;
    assert_fails(create(&r, &req), r.err, ERR_EXISTS);
    assert_non_null(strstr(r.err.msg, "another tenant"));
    req.name = "pvc-2";
    assert_ok(create(&r, &req), r.err);
    assert_string_equal(keyd.tenant, "team-b");
    req = rig_request("pvc-3", "a", SIZE);
    assert_ok(create(&r, &req), r.err);
    assert_string_equal(keyd.tenant, "lab"); /* the configuration's default */
    r.f.config.default_tenant[0] = '\0';
    req.name = "pvc-4";
    assert_fails(create(&r, &req), r.err, ERR_INVALID);
    assert_non_null(strstr(r.err.msg, "no tenant"));
}

/* ---- keySource client ---- */

#define UUID   "123e4567-e89b-42d3-a456-426614174000"
#define HASH   "0123456789abcdef0123456789abcdef"
#define COMMIT HASH HASH
#define ZEROS  "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define SEALED ZEROS "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" /* 80 bytes: HPKE's */

static struct csi_pair secrets[] = {
    { "algorithm", "HPKE-Base-X25519-SHA256-A256GCM" },
    { "commitment", COMMIT },
    { "label", "phone" },
    { "publicKey", "MAIBAA==" },
    { "uuid", UUID },
    { "wrapped", SEALED },
};

/* uuid, commitment and device are the request's; nobody is asked for a key. */
static void test_client(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_create_volume_request req = rig_request("pvc-1", "a", SIZE);
    struct csi_pair parameters[] = { { "keySource", "client" }, { "pool", "a" } };
    struct kms_vault_config vault = { .server_key = "coffer-s-1" };
    struct csi_volume v;

    rig_make(&r, 1);
    r.f.kms[0].kind = KMS_VAULT_TRANSIT;
    r.f.kms[0].vault = &vault;
    req.parameters = (struct csi_map){ .items = parameters, .n = 2 };
    assert_fails(create(&r, &req), r.err, ERR_INVALID);
    assert_non_null(strstr(r.err.msg, "secret 'uuid' is missing"));
    req.secrets = (struct csi_map){ .items = secrets, .n = ARRAY_SIZE(secrets) };
    keyd.fails = ERR_UNAVAILABLE;
    r.err = (struct error)ERROR_INIT;
    assert_ok(controller_create(&r.c, &r.call, &req, &v, &r.err), r.err);
    assert_int_equal(keyd.minted, 0);
    const struct record record = rig_record(&r, v.volume_id);
    assert_string_equal(record.uuid, UUID);
    assert_string_equal(record.key.kind, "client");
    assert_string_equal(record.key.ciphertext, "commit:v1:" COMMIT);
    assert_non_null(strstr(record.recipients, "\"label\":\"phone\""));
    assert_int_equal(v.volume_context.n, 4); /* no commitment: it changes with the key */
    assert_string_equal(v.volume_context.items[0].key, "keySource");
    assert_ok(create(&r, &req), r.err);
    assert_ok(rig_delete(&r, v.volume_id), r.err);
    assert_true(rig_is_gone(&r, v.volume_id));
}

static void differs(struct rig *r, const struct csi_create_volume_request *req, size_t secret,
                    const char *value, const char *word)
{
    const struct csi_pair before = secrets[secret];

    secrets[secret].value = value;
    assert_fails(create(r, req), r->err, ERR_EXISTS);
    assert_non_null(strstr(r->err.msg, word));
    secrets[secret] = before;
}

/* A name stands for one key of one device; what was begun and never came to be makes way. */
static void test_client_again(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_create_volume_request req = rig_request("pvc-1", "a", SIZE);
    struct csi_pair parameters[] = { { "keySource", "client" }, { "pool", "a" } };
    struct kms_vault_config vault = { .server_key = "coffer-s-1" };
    struct csi_volume v;

    rig_make(&r, 1);
    r.f.kms[0].kind = KMS_VAULT_TRANSIT;
    r.f.kms[0].vault = &vault;
    req.parameters = (struct csi_map){ .items = parameters, .n = 2 };
    req.secrets = (struct csi_map){ .items = secrets, .n = ARRAY_SIZE(secrets) };
    assert_ok(controller_create(&r.c, &r.call, &req, &v, &r.err), r.err);
    differs(&r, &req, 1, HASH "00000000000000000000000000000000", "another commitment");
    differs(&r, &req, 2, "tablet", "another device key");
    differs(&r, &req, 3, "MAIAAA==", "another device key");
    differs(&r, &req, 4, "123e4567-e89b-42d3-a456-426614174001", "another uuid");
    parameters[0].value = "vault";
    assert_fails(create(&r, &req), r.err, ERR_EXISTS);
    assert_non_null(strstr(r.err.msg, "another keySource"));
    parameters[0].value = "client";
    assert_ok(create(&r, &req), r.err);
}

/* As a kill after the first write left it. */
static void set_minting(struct rig *r, const char *volume_id)
{
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct volume_id id;
    struct record record;

    assert_ok(volume_id_parse(volume_id, &id, &r->err), r->err);
    assert_ok(volume_open(pool_set_find(r->f.set, id.pool), &id, false, &v, &r->err), r->err);
    assert_ok(v.pool->ops->read_record(&v, &record, &r->err), r->err);
    record.state = RECORD_MINTING;
    memset(&record.key, 0, sizeof(record.key));
    assert_ok(v.pool->ops->write_record(&v, &record, &r->err), r->err);
}

static void test_client_killed(void **state UNUSED)
{
    static const char other[] = "123e4567-e89b-42d3-a456-426614174001";
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_create_volume_request req = rig_request("pvc-1", "a", SIZE);
    struct csi_pair parameters[] = { { "keySource", "client" }, { "pool", "a" } };
    struct kms_vault_config vault = { .server_key = "coffer-s-1" };
    struct csi_volume v;

    rig_make(&r, 1);
    r.f.kms[0].kind = KMS_VAULT_TRANSIT;
    r.f.kms[0].vault = &vault;
    req.parameters = (struct csi_map){ .items = parameters, .n = 2 };
    req.secrets = (struct csi_map){ .items = secrets, .n = ARRAY_SIZE(secrets) };
    assert_ok(controller_create(&r.c, &r.call, &req, &v, &r.err), r.err);
    set_minting(&r, v.volume_id);
    assert_ok(create(&r, &req), r.err);
    struct record record = rig_record(&r, v.volume_id);
    assert_int_equal(record.state, RECORD_NEW);
    assert_string_equal(record.uuid, UUID);
    assert_string_equal(record.key.ciphertext, "commit:v1:" COMMIT);
    /* nobody was told of it, so another device's makes it anew */
    set_minting(&r, v.volume_id);
    secrets[4].value = other;
    assert_ok(create(&r, &req), r.err);
    secrets[4].value = UUID;
    record = rig_record(&r, v.volume_id);
    assert_string_equal(record.uuid, other);
    assert_int_equal(record.state, RECORD_NEW);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_discard),      cmocka_unit_test(test_identity),
        cmocka_unit_test(test_tenant),       cmocka_unit_test(test_client),
        cmocka_unit_test(test_client_again), cmocka_unit_test(test_client_killed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

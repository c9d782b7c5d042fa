/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "tests/unit/controller/fixture.h"

struct asked {
    struct csi_capability capability;
    struct csi_validate_request req;
};

static void ask(struct asked *a, const struct csi_volume *v)
{
    a->capability = rig_mount();
    a->req = (struct csi_validate_request){ .volume_id = v->volume_id,
                                            .volume_context = v->volume_context,
                                            .capabilities = { .items = &a->capability, .n = 1 } };
}

static int validate(struct rig *r, const struct asked *a, struct csi_validate_reply *ret)
{
    r->err = (struct error)ERROR_INIT;
    return controller_validate(&r->c, &r->call, &a->req, ret, &r->err);
}

static void confirmed(struct rig *r, const struct asked *a)
{
    struct csi_validate_reply reply;

    assert_ok(validate(r, a, &reply), r->err);
    assert_string_equal(reply.message, "");
    assert_true(reply.confirmed);
}

static void not_confirmed(struct rig *r, const struct asked *a, const char *word)
{
    struct csi_validate_reply reply;

    assert_ok(validate(r, a, &reply), r->err);
    assert_false(reply.confirmed);
    assert_non_null(strstr(reply.message, word));
}

static void test_confirmed(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;
    struct asked a;
    const struct csi_pair same[] = { { "kms", "k1" }, { "pool", "a" } },
                          tenant[] = { { "tenant", "lab" } };

    rig_make(&r, 2);
    v = rig_volume(&r, "pvc-1", MIB(20));
    ask(&a, &v);
    confirmed(&r, &a);
    a.req.volume_context.n = 0;
    confirmed(&r, &a);
    a.capability.mode = CSI_MULTI_NODE_READER_ONLY;
    confirmed(&r, &a);
    a.req.parameters = (struct csi_map){ .items = same, .n = 2 };
    confirmed(&r, &a);
    r.f.config.n_pools = 1;
    a.req.parameters = (struct csi_map){ .items = tenant, .n = 1 };
    confirmed(&r, &a);
}

static void test_not_confirmed(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_volume v;
    struct asked a;
    struct kms_vault_config vault = { .auth = { .pod_role = "coffer-pod" } };
    struct csi_pair context[] = { { "uuid", "00000000-0000-4000-8000-000000000000" } };
    const struct csi_pair pool[] = { { "pool", "b" } },
                          kms[] = { { "kms", "k2" }, { "pool", "a" } },
                          tenant[] = { { "pool", "a" }, { "tenant", "team-b" } },
                          discard[] = { { "discard", "true" }, { "pool", "a" } },
                          identity[] = { { "pool", "a" }, { "tenantIdentity", "pod" } },
                          unknown[] = { { "speed", "high" } };
    const struct {
        struct csi_map parameters;
        const char *word;
    } cases[] = { { { pool, 1 }, "pool" },
                  { { kms, 2 }, "kms" },
                  { { tenant, 2 }, "tenant" },
                  { { discard, 2 }, "in full" },
                  { { identity, 2 }, "tenantIdentity is node" },
                  { { unknown, 1 }, "speed" } };

    rig_make(&r, 2);
    r.f.kms[0].kind = KMS_VAULT_TRANSIT;
    r.f.kms[0].vault = &vault;
    v = rig_volume(&r, "pvc-1", MIB(20));
    ask(&a, &v);
    a.capability = rig_block();
    not_confirmed(&r, &a, "ext4");
    a.capability = rig_mount();
    a.capability.mode = CSI_MULTI_NODE_MULTI_WRITER;
    not_confirmed(&r, &a, "MULTI_NODE_MULTI_WRITER");
    a.capability = rig_mount();
    a.capability.fs_type = "xfs";
    not_confirmed(&r, &a, "holds ext4, not xfs");
    a.capability.fs_type = "vfat";
    not_confirmed(&r, &a, "vfat");
    ask(&a, &v);
    a.req.volume_context = (struct csi_map){ .items = context, .n = 1 };
    not_confirmed(&r, &a, "uuid");
    context[0] = (struct csi_pair){ "discard", "true" };
    not_confirmed(&r, &a, "discard");
    context[0] = (struct csi_pair){ "tenantIdentity", "pod" };
    not_confirmed(&r, &a, "tenantIdentity");
    ask(&a, &v);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        a.req.parameters = cases[i].parameters;
        not_confirmed(&r, &a, cases[i].word);
    }
    a.req.parameters.n = 0;
    a.req.mutable_parameters = (struct csi_map){ .items = pool, .n = 1 };
    not_confirmed(&r, &a, "mutable");
}

static void test_absent(void **state UNUSED)
{
    AUTO_RIG struct rig r = RIG_INIT;
    struct csi_validate_reply reply;
    struct csi_volume v;
    struct asked a;

    rig_make(&r, 1);
    v = rig_volume(&r, "pvc-1", MIB(20));
    ask(&a, &v);
    a.req.volume_id = "some-vol-id";
    assert_fails(validate(&r, &a, &reply), r.err, ERR_NOT_FOUND);
    a.req.volume_id = rig_id(&r, 0, "never");
    assert_fails(validate(&r, &a, &reply), r.err, ERR_NOT_FOUND);
    rig_set_state(&r, v.volume_id, RECORD_ERASED);
    a.req.volume_id = v.volume_id;
    assert_fails(validate(&r, &a, &reply), r.err, ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_confirmed),
        cmocka_unit_test(test_not_confirmed),
        cmocka_unit_test(test_absent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

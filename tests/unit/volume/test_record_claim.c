/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/record.h"

#include "tests/unit/volume/ready_record.h"
#include "tests/support/unit.h"

static void test_matches(void **state UNUSED)
{
    const struct record r = ready_record();
    const struct record_claim right = { .id = ID,
                                        .tenant = "team-a",
                                        .uuid = UUID,
                                        .kms = "lab",
                                        .key_source = "vault",
                                        .discard = "false" };
    struct record_claim c = { .id = NULL };

    assert_works(record_matches(&r, &c, &err));
    assert_works(record_matches(&r, &right, &err));
    c = right;
    c.id = "fast.3f0c12ac." HASH;
    c.tenant = "x";
    assert_fails(record_matches(&r, &c, &err), ERR_DATA_LOSS,
                 "record: field 'id' is '" ID "', which is not what the request says");
    c = right;
    c.tenant = "team-b";
    assert_fails(record_matches(&r, &c, &err), ERR_DATA_LOSS,
                 "record: field 'tenant' is 'team-a', which is not what the request says");
    c = right;
    c.uuid = "";
    assert_fails(record_matches(&r, &c, &err), ERR_DATA_LOSS,
                 "record: field 'uuid' is '" UUID "', which is not what the request says");
    c = right;
    c.kms = "la";
    assert_fails(record_matches(&r, &c, &err), ERR_DATA_LOSS,
                 "record: field 'kms' is 'lab', which is not what the request says");
    c = right;
    c.key_source = "client";
    assert_fails(record_matches(&r, &c, &err), ERR_DATA_LOSS,
                 "record: field 'keySource' is 'vault', which is not what the request says");
    c = right;
    c.discard = "true";
    assert_fails(record_matches(&r, &c, &err), ERR_DATA_LOSS,
                 "record: field 'discard' is 'false', which is not what the request says");
}

static void test_identity(void **state UNUSED)
{
    const struct record_claim node = { .identity = IDENTITY_NODE };
    const struct record_claim pod = { .identity = IDENTITY_POD };
    struct record r = ready_record();

    assert_works(record_matches(&r, &node, &err));
    assert_fails(record_matches(&r, &pod, &err), ERR_DATA_LOSS,
                 "record: field 'tenantIdentity' is 'node', which is not what the request says");
    r.pod = true;
    assert_works(record_matches(&r, &pod, &err));
    assert_fails(record_matches(&r, &node, &err), ERR_DATA_LOSS,
                 "record: field 'tenantIdentity' is 'pod', which is not what the request says");
}

static void test_summary(void **state UNUSED)
{
    struct record r = ready_record();

    r.discard = true;
    struct record_summary s = record_summary_of(&r);
    assert_int_equal(s.size, GIB(1));
    assert_int_equal(s.state, RECORD_READY);
    assert_true(s.discard && !s.pod);
    assert_ptr_equal(s.uuid, r.uuid);
    assert_ptr_equal(s.tenant, r.tenant);
    assert_ptr_equal(s.kms, r.kms);
    assert_ptr_equal(s.key_source, r.key_source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_summary),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/key_report.h"

#include "common/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define HEAD "{\"v\":1,\"host\":\"n\",\"made\":\"2026-11-25T01:02:03Z\",\"whole\":true,"
#define POOL "\"pools\":[{\"name\":\"p\",\"tag\":\"0a0b0c0d\"},{\"name\":\"q\",\"tag\":\"\"}],"
#define KEY(versions)                                                                       \
    "\"keys\":[{\"kms\":\"t\",\"mount\":\"transit\",\"key\":\"c-a\",\"versions\":" versions \
    ",\"in_flight\":2,\"unfinished\":0,\"latest\":9}],"
#define GAPS "\"gaps\":[{\"what\":\"x\",\"problem\":\"y\"}],\"more\":1}"

static int decode(const char *text, struct key_report *ret, struct error *err)
{
    return key_report_decode(text, strlen(text), ret, err);
}

static void test_decode(void **state UNUSED)
{
    struct key_report r = { .keys = NULL };
    struct error err = ERROR_INIT;

    if (decode(HEAD POOL KEY("{\"10\":1,\"2\":5,\"9\":3}") GAPS, &r, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(r.host, "n");
    assert_true(r.made == 1795568523);
    assert_true(r.n_gaps == 1 && r.n_keys == 1 && json_array_size(r.tags) == 1);
    assert_int_equal(r.keys[0].n_versions, 3);
    assert_true(r.keys[0].versions[0].version == 2 && r.keys[0].versions[0].volumes == 5);
    assert_true(r.keys[0].versions[2].version == 10 && r.keys[0].in_flight == 2);
    key_report_release(&r);
}

static void test_refused(void **state UNUSED)
{
    static const char *const bad[][2] = {
        { "", "report" },
        { "[]", "must be an object" },
        { "{}", "'v'" },
        { "{\"v\":2,\"host\":\"n\",\"made\":\"\",\"whole\":true,\"pools\":[],\"keys\":[],\"gaps\":["
          "]}",
          "version 2" },
        { "{\"v\":1,\"host\":\"n\",\"made\":\"2026-11-25T01:02:03Z\",\"whole\":false,\"pools\":[],"
          "\"keys\":[],\"gaps\":[]}",
          "not of all keys" },
        { "{\"v\":1,\"host\":\"n\",\"made\":\"yesterday\",\"whole\":true,\"pools\":[],\"keys\":[],"
          "\"gaps\":[]}",
          "'made'" },
        { HEAD POOL "\"keys\":[]}", "'gaps'" },
        { HEAD "\"pools\":[{}],\"keys\":[]," GAPS, "'tag'" },
        { HEAD POOL "\"keys\":[{}]," GAPS, "'mount'" },
        { HEAD POOL KEY("[]") GAPS, "'versions'" },
        { HEAD POOL KEY("{\"x\":1}") GAPS, "'versions'" },
        { HEAD POOL KEY("{\"1\":0}") GAPS, "'versions'" },
        { HEAD POOL KEY("{\"1\":\"1\"}") GAPS, "'versions'" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct key_report r = { .keys = NULL };
        struct error err = ERROR_INIT;

        assert_int_equal(decode(bad[i][0], &r, &err), -1);
        if (err.code != ERR_INVALID || strstr(err.msg, bad[i][1]) == NULL)
            fail_msg("%s: %s", bad[i][0], err.msg);
        assert_null(r.keys);
    }
}

static struct kms_vault_config vault = { .mount = "transit", .name = "c-{tenant}" };
static const struct kms_config kms = { .name = "t", .kind = KMS_VAULT_TRANSIT, .vault = &vault };

/* What is printed is what is read. */
static void test_round_trip(void **state UNUSED)
{
    struct key_version versions[] = { { 1, 3 }, { 7, 2 } };
    const struct ring_key k = {
        .kms = &kms, .name = "c-a", .versions = versions, .n_versions = 2, .in_flight = 4
    };
    struct pool_config pc = { .name = "p" };
    struct pool pool = { .config = &pc, .tag = "0a0b0c0d" };
    struct pool *pools[] = { &pool };
    const struct pool_set set = { .pools = pools, .n = 1 };
    AUTO_KEY_RING struct key_ring ring = { .keys = NULL };
    struct key_report r = { .keys = NULL };
    struct error err = ERROR_INIT;

    assert_int_equal(key_ring_init(&ring, &err), 0);
    AUTO_JSON json_t *made = key_report_make(&ring, &set, 1795568523, true, &err);
    assert_non_null(made);
    assert_int_equal(json_array_append_new(json_object_get(made, "keys"), key_report_row(&k)), 0);
    AUTO_FREE char *text = json_text(made, 0);
    if (decode(text, &r, &err) < 0)
        fail_msg("%s", err.msg);
    assert_true(r.made == 1795568523 && r.n_gaps == 0);
    const struct report_key *there = key_report_find(&r, &k);
    assert_non_null(there);
    assert_true(there->n_versions == 2 && there->versions[1].volumes == 2 && there->in_flight == 4);
    struct key_reports one = { .items = &r, .n = 1 };
    assert_int_equal(key_reports_check(&one, &set, 2, &err), -1); /* this machine's own */
    assert_non_null(strstr(err.msg, "of this machine"));
    (void)snprintf(pool.tag, sizeof(pool.tag), "ffffffff");
    assert_int_equal(key_reports_check(&one, &set, 2, &err), 0);
    assert_int_equal(key_reports_check(&one, &set, 3, &err), -1);
    assert_int_equal(err.code, ERR_PRECONDITION);
    struct key_report twice[] = { r, r };
    struct key_reports two = { .items = twice, .n = 2 };
    assert_int_equal(key_reports_check(&two, &set, 3, &err), -1);
    assert_non_null(strstr(err.msg, "same pool"));
    key_report_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_decode),
                                        cmocka_unit_test(test_refused),
                                        cmocka_unit_test(test_round_trip) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/key_judge.h"

#include "cofferctl/key_scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define MADE 1000 /* when version 5 was */

static struct kms_vault_config vault = { .mount = "transit", .name = "c-{tenant}" };
static const struct kms_config kms = { .name = "t", .kind = KMS_VAULT_TRANSIT, .vault = &vault };
static struct key_version new_only[] = { { 5, 9 }, { 6, 1 } }, with_old[] = { { 4, 2 }, { 5, 9 } };
static const struct ring_key good = {
    .kms = &kms, .name = "c-a", .versions = new_only, .n_versions = 2, .unfinished = 1
};

static void expect(const struct ring_key *k, const struct key_reports *reports, const char *gap,
                   const char *word)
{
    AUTO_KEY_RING struct key_ring ring = { .keys = NULL };
    struct error err = ERROR_INIT;

    assert_int_equal(key_ring_init(&ring, &err), 0);
    if (gap != NULL)
        assert_int_equal(key_scan_gap(ring.gaps, gap, "it hides", &err), 0);
    int r = key_judge(&ring, k, reports, 5, MADE, &err);
    if (word == NULL) {
        if (r < 0)
            fail_msg("%s", err.msg);
        return;
    }
    assert_int_equal(r, -1);
    assert_int_equal(err.code, ERR_PRECONDITION);
    if (strstr(err.msg, word) == NULL)
        fail_msg("%s", err.msg);
}

static void test_here(void **state UNUSED)
{
    static const struct key_reports none = { .items = NULL };
    struct ring_key old = good, flying = good, unused = { .kms = &kms, .name = "c-z" };

    old.versions = with_old;
    flying.in_flight = 1;
    expect(&good, &none, NULL, NULL);
    expect(&unused, &none, NULL, NULL);
    expect(&old, &none, NULL, "2 volumes are under a version older than 5");
    expect(&flying, &none, NULL, "1 volumes are being created");
    expect(&good, &none, "pool 'x'", "the first: pool 'x': it hides");
}

static void test_there(void **state UNUSED)
{
    struct report_key key = {
        .mount = "transit", .name = "c-a", .versions = new_only, .n_versions = 2
    };
    struct key_report r = { .host = "n2", .made = MADE + 1, .keys = &key, .n_keys = 1 };
    const struct key_reports one = { .items = &r, .n = 1 };

    expect(&good, &one, NULL, NULL);
    r.made = MADE;
    expect(&good, &one, NULL, "the report of 'n2' is from before version 5");
    r.made = MADE + 1;
    r.n_gaps = 3;
    expect(&good, &one, NULL, "'n2' reports 3");
    r.n_gaps = 0;
    key.in_flight = 1;
    expect(&good, &one, NULL, "on 'n2' are being created");
    key.in_flight = 0;
    key.versions = with_old;
    expect(&good, &one, NULL, "2 volumes on 'n2'");
    (void)snprintf(key.name, sizeof(key.name), "c-b"); /* another tenant's */
    expect(&good, &one, NULL, NULL);
    r.made = MADE; /* says nothing of this key, but was too early to */
    expect(&good, &one, NULL, "from before version 5");
}

static void test_grace(void **state UNUSED)
{
    static const struct {
        int64_t made, now;
        uint64_t grace;
        const char *word;
    } rows[] = {
        { MADE, MADE, 0, NULL },
        { MADE, MADE + 3600, 3600, NULL },
        { MADE, MADE + 3599, 3600, "wait 0 hours and 0 minutes" },
        { MADE, MADE + 60, 86400, "wait 23 hours and 59 minutes" },
        { MADE, MADE - 5, 3600, "wait 1 hours" }, /* clocks differ */
        { MADE, MADE - 5, 0, "wait 0 hours" },
        { 0, MADE, 0, "doesn't say when" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct error err = ERROR_INIT;
        int r = key_judge_grace(&good, 5, rows[i].made, rows[i].now, rows[i].grace, &err);

        assert_int_equal(r, rows[i].word == NULL ? 0 : -1);
        if (rows[i].word != NULL && strstr(err.msg, rows[i].word) == NULL)
            fail_msg("%s", err.msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_here), cmocka_unit_test(test_there),
                                        cmocka_unit_test(test_grace) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

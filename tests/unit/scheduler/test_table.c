/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/table.h"

#include "common/strbuf.h"
#include "tests/support/nomem.h"
#include "tests/support/skip.h"
#include "tests/support/unit.h"

#define MANY 2000u

static struct cloud cloud(unsigned int n, unsigned int devices)
{
    struct cloud c = { .devices = calloc(devices + 1, sizeof(struct device)) };

    assert_non_null(c.devices);
    (void)snprintf(c.id, sizeof(c.id), "%032x", n);
    c.n_devices = devices;
    for (unsigned int i = 0; i < devices; i++)
        (void)snprintf(c.devices[i].name, sizeof(c.devices[i].name), "%032x%032x", n, i);
    return c;
}

static struct cloud_table *filled(unsigned int n)
{
    struct cloud_table *t = NULL;

    assert_works(cloud_table_new(&t, &err));
    for (unsigned int i = 0; i < n; i++) {
        struct cloud c = cloud(i, 2);

        assert_works(cloud_table_put(t, &c, i + 1, NULL, &err));
        assert_null(c.devices); /* it was taken over */
    }
    return t;
}

static void test_found_by_id_and_device(void **state UNUSED)
{
    AUTO_CLOUD_TABLE struct cloud_table *t = filled(MANY);

    assert_int_equal(cloud_table_size(t), MANY);
    for (unsigned int i = 0; i < MANY; i++) {
        struct cloud c = cloud(i, 2);
        struct entry *e = cloud_table_by_id(t, c.id);

        assert_non_null(e);
        assert_int_equal(e->seq, i + 1);
        assert_ptr_equal(cloud_table_by_device(t, c.devices[0].name), e);
        assert_ptr_equal(cloud_table_by_device(t, c.devices[1].name), e);
        cloud_clear(&c);
    }
    assert_null(cloud_table_by_id(t, "ffffffffffffffffffffffffffffffff"));
    assert_null(cloud_table_by_id(t, ""));
    /* an id is no device's name */
    assert_null(cloud_table_by_device(t, "00000000000000000000000000000000"));
}

static void test_new_facts_keep_the_entry(void **state UNUSED)
{
    AUTO_CLOUD_TABLE struct cloud_table *t = filled(3);
    struct cloud c = cloud(1, 1);
    struct entry *e = cloud_table_by_id(t, c.id), *again = NULL;

    memcpy(e->failure, "why", sizeof("why"));
    c.devices[0].name[63] = '9';
    assert_works(cloud_table_put(t, &c, 99, &again, &err));
    assert_ptr_equal(again, e);
    assert_string_equal(e->failure, "why");
    assert_int_equal(cloud_table_size(t), 3);
    assert_ptr_equal(cloud_table_by_device(t, e->cloud.devices[0].name), e);
    c = cloud(1, 2); /* the devices from before are gone */
    assert_null(cloud_table_by_device(t, c.devices[0].name));
    assert_null(cloud_table_by_device(t, c.devices[1].name));
    cloud_clear(&c);
}

static void test_removed(void **state UNUSED)
{
    AUTO_CLOUD_TABLE struct cloud_table *t = filled(MANY);

    for (unsigned int i = 0; i < MANY; i += 2) {
        struct cloud c = cloud(i, 2);

        cloud_table_remove(t, cloud_table_by_id(t, c.id));
        assert_null(cloud_table_by_id(t, c.id));
        assert_null(cloud_table_by_device(t, c.devices[1].name));
        cloud_clear(&c);
    }
    assert_int_equal(cloud_table_size(t), MANY / 2);
}

/* A device on two clouds' lists has the one that it made. */
static void test_one_device_two_clouds(void **state UNUSED)
{
    AUTO_CLOUD_TABLE struct cloud_table *t = filled(0);

    for (unsigned int i = 3; i > 0; i--) {
        struct cloud c = cloud(i, 1);

        (void)snprintf(c.devices[0].name, sizeof(c.devices[0].name), "%032x%032x", 2, 0);
        assert_works(cloud_table_put(t, &c, 1, NULL, &err));
    }
    struct cloud c = cloud(2, 1);
    assert_string_equal(cloud_table_by_device(t, c.devices[0].name)->cloud.id, c.id);
    cloud_table_remove(t, cloud_table_by_id(t, c.id));
    assert_string_equal(cloud_table_by_device(t, c.devices[0].name)->cloud.id,
                        "00000000000000000000000000000001");
    cloud_clear(&c);
}

static void test_an_id_that_is_none(void **state UNUSED)
{
    AUTO_CLOUD_TABLE struct cloud_table *t = filled(0);
    AUTO_CLOUD struct cloud c = cloud(1, 1);

    c.id[0] = 'X';
    assert_fails(cloud_table_put(t, &c, 1, NULL, &err), ERR_INTERNAL,
                 "a cloud has an id that is none");
    assert_int_equal(cloud_table_size(t), 0);
}

static bool all_lead_to(const struct cloud_table *t, unsigned int n, unsigned int devices)
{
    AUTO_CLOUD struct cloud c = cloud(n, devices);
    const struct entry *e = cloud_table_by_id(t, c.id);
    bool all = e != NULL && e->cloud.n_devices == devices;

    for (unsigned int i = 0; i < devices; i++)
        all = all && cloud_table_by_device(t, c.devices[i].name) == e;
    return all;
}

/* Whichever allocation fails: what was there is whole, of what wasn't nothing is. */
static void test_no_memory(void **state UNUSED)
{
    bool happened = true;

    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    for (unsigned int n = 1; happened; n++) {
        AUTO_CLOUD_TABLE struct cloud_table *t = filled(2);
        AUTO_CLOUD struct cloud known = cloud(1, 4), fresh = cloud(2, 4);
        struct error err = ERROR_INIT;

        nomem_arm(n);
        int r = cloud_table_put(t, &known, 9, NULL, &err);
        if (r == 0)
            r = cloud_table_put(t, &fresh, 9, NULL, &err);
        happened = nomem_disarm();
        assert_int_equal(r, happened ? -1 : 0);
        assert_true(all_lead_to(t, 0, 2));
        assert_true(all_lead_to(t, 1, known.devices != NULL ? 2 : 4));
        assert_int_equal(cloud_table_size(t), happened ? 2 : 3);
        assert_true(happened || all_lead_to(t, 2, 4));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found_by_id_and_device),
        cmocka_unit_test(test_new_facts_keep_the_entry),
        cmocka_unit_test(test_removed),
        cmocka_unit_test(test_one_device_two_clouds),
        cmocka_unit_test(test_an_id_that_is_none),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

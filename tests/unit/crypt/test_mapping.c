/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/mapping.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/sysmacros.h>
#include <cmocka.h>

#define NAME "coffer-0123456789abcdef0123456789abcdef-01234567"

static const struct mapping sample = {
    .name = NAME,
    .dm_uuid = "CRYPT-LUKS2-0a1b2c3d4e5f46078899aabbccddeeff-" NAME,
    .size = MIB(64),
    .open_count = 2,
    .read_only = true,
    .discards = true,
    .state = MAPPING_ZOMBIE,
    .why = "its backing device is gone",
};

static void survives_the_wire(void **state)
{
    struct mapping m = sample, back = { .name = "" };
    AUTO_JSON json_t *obj = NULL;

    m.dev = makedev(254, 3);
    m.backing = makedev(7, 12);
    obj = mapping_to_json(&m);
    assert_non_null(obj);
    assert_int_equal(mapping_from_json(obj, &back, NULL), 0);
    assert_string_equal(back.name, m.name);
    assert_string_equal(back.dm_uuid, m.dm_uuid);
    assert_string_equal(back.why, m.why);
    assert_true(back.dev == m.dev && back.backing == m.backing && back.size == m.size);
    assert_true(back.open_count == 2 && back.read_only && back.discards &&
                back.state == MAPPING_ZOMBIE);
}

static void refuses_bad_fields(void **state)
{
    static const struct {
        const char *key, *value;
    } rows[] = {
        { "dev", "\"254\"" },
        { "dev", "\"254:\"" },
        { "dev", "\"-1:3\"" },
        { "dev", "\"99999:0\"" },
        { "dev", "7" },
        { "size", "-1" },
        { "size", "\"1\"" },
        { "open", "4294967296" },
        { "state", "\"good\"" },
        { "read_only", "0" },
        { "discards", "\"true\"" },
        { "name", "null" },
        { "extra", "1" },
        { "name", "\"" NAME "-too-long\"" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO_JSON json_t *obj = mapping_to_json(&sample);
        struct mapping back = sample;
        struct error err = ERROR_INIT;

        assert_int_equal(json_object_set_new(obj, rows[i].key, json_own(rows[i].value)), 0);
        assert_int_equal(mapping_from_json(obj, &back, &err), -1);
        assert_memory_equal(&back, &sample, sizeof(back));
        assert_non_null(strstr(err.msg, rows[i].key));
    }
}

static void lists_and_finds(void **state)
{
    AUTO_JSON json_t *array = json_array();
    AUTO_MAPPING_LIST struct mapping_list l = { .items = NULL, .n = 0 };
    struct error err = ERROR_INIT;

    assert_int_equal(mapping_list_from_json(array, &l, NULL), 0);
    assert_int_equal(l.n, 0);
    assert_null(mapping_find(&l, NAME));
    mapping_list_release(&l);
    assert_int_equal(json_array_append_new(array, mapping_to_json(&sample)), 0);
    assert_int_equal(mapping_list_from_json(array, &l, NULL), 0);
    assert_ptr_equal(mapping_find(&l, NAME), &l.items[0]);
    assert_null(mapping_find(&l, "coffer-"));
    assert_int_equal(json_array_append_new(array, json_integer(1)), 0);
    assert_int_equal(mapping_list_from_json(array, &l, &err), -1);
    assert_int_equal(l.n, 1); /* untouched */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(survives_the_wire),
        cmocka_unit_test(refuses_bad_fields),
        cmocka_unit_test(lists_and_finds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

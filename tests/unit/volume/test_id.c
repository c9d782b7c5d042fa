/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/id.h"

#include "tests/support/unit.h"

#define HASH "0123456789abcdef0123456789abcdef"

static void test_names(void **state UNUSED)
{
    char longest[65];

    memset(longest, 'p', 64);
    longest[64] = '\0';
    assert_true(pool_name_valid("fast-1"));
    assert_true(pool_name_valid(longest + 64 - 24));
    assert_false(pool_name_valid(longest + 64 - 25));
    assert_true(tenant_valid(longest + 1));
    assert_false(tenant_valid(longest));
    assert_true(kms_name_valid("a"));
    static const char *const bad[] = { "", "A", "a b", "a.b", "a_b", "\xc3\xa9", "a\n" };

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_false(pool_name_valid(bad[i]));
        assert_false(tenant_valid(bad[i]));
        assert_false(kms_name_valid(bad[i]));
    }
}

static void test_parse(void **state UNUSED)
{
    struct volume_id id;
    char text[VOLUME_ID_MAX + 1];

    assert_works(volume_id_parse("fast.3f0c12ab." HASH, &id, &err));
    assert_string_equal(id.pool, "fast");
    assert_string_equal(id.pool_tag, "3f0c12ab");
    assert_string_equal(id.hash, HASH);
    volume_id_format(&id, text);
    assert_string_equal(text, "fast.3f0c12ab." HASH);
    assert_works(volume_id_parse("aaaaaaaaaaaaaaaaaaaaaaaa.00000000." HASH, &id, &err));
    volume_id_format(&id, text);
    assert_int_equal(strlen(text), VOLUME_ID_MAX);
}

static void test_parse_refuses(void **state UNUSED)
{
    static const char *const bad[] = {
        "",
        ".",
        "fast",
        "fast.",
        "fast.3f0c12ab",
        "fast.3f0c12ab.",
        ".3f0c12ab." HASH,
        "Fast.3f0c12ab." HASH,
        "fast.3F0c12ab." HASH,
        "fast.3f0c12a." HASH,
        "fast.3f0c12abc." HASH,
        "fast.3f0c12ab." HASH "0",
        "fast.3f0c12ab.0123456789abcdef0123456789abcde",
        "fast.3f0c12ab.0123456789ABCDEF0123456789abcdef",
        "fast.3f0c12ab." HASH ".x",
        "fast..3f0c12ab." HASH,
        "fa/st.3f0c12ab." HASH,
        "../x.3f0c12ab." HASH,
        "aaaaaaaaaaaaaaaaaaaaaaaaa.00000000." HASH,
        "fast.3f0c12ab." HASH "\n",
    };
    struct volume_id id = { .pool = "old" };

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct error err = ERROR_INIT;

        if (volume_id_parse(bad[i], &id, &err) == 0)
            fail_msg("accepted '%s'", bad[i]);
        assert_int_equal(err.code, ERR_NOT_FOUND);
    }
    assert_string_equal(id.pool, "old");
    assert_fails(volume_id_parse("nope", &id, &err), ERR_NOT_FOUND,
                 "volume id 'nope' is not one of this driver");
    assert_fails(volume_id_parse("a\x1b[1m", &id, &err), ERR_NOT_FOUND,
                 "the volume id is not one of this driver");
    assert_fails(volume_id_parse("fast.3f0c12ab." HASH "012345678901234567890", &id, &err),
                 ERR_NOT_FOUND, "the volume id is not one of this driver");
}

static void test_from_name(void **state UNUSED)
{
    struct volume_id id, again, other;
    char text[VOLUME_ID_MAX + 1];

    volume_id_from_name("fast", "3f0c12ab", "abc", &id); /* SHA-256("abc"), FIPS 180-4's example */
    assert_string_equal(id.hash, "ba7816bf8f01cfea414140de5dae2223");
    volume_id_format(&id, text);
    assert_works(volume_id_parse(text, &again, &err));
    assert_memory_equal(&id, &again, sizeof(id));
    volume_id_from_name("fast", "3f0c12ab", "abd", &other);
    assert_string_not_equal(id.hash, other.hash);
    volume_id_from_name("fast", "3f0c12ab", "pvc-\xc3\xa9", &other);
    assert_string_equal(other.hash, "737d07c546e4d6e6934f69792217cb98");
}

static void test_dm(void **state UNUSED)
{
    static const char uuid[] = "123e4567-e89b-42d3-a456-426614174000";
    struct volume_id id;
    char name[DM_NAME_LEN + 1], dm_uuid[DM_UUID_MAX + 1], back[37] = "old";

    assert_works(volume_id_parse("fast.3f0c12ab." HASH, &id, &err));
    volume_id_dm_name(&id, name);
    assert_string_equal(name, "coffer-" HASH "-3f0c12ab");
    assert_int_equal(strlen(name), DM_NAME_LEN);
    volume_dm_uuid(uuid, name, dm_uuid);
    assert_string_equal(dm_uuid,
                        "CRYPT-LUKS2-123e4567e89b42d3a456426614174000-coffer-" HASH "-3f0c12ab");
    assert_int_equal(strlen(dm_uuid), DM_UUID_MAX);
    assert_int_equal(volume_uuid_from_dm(dm_uuid, name, back), 0);
    assert_string_equal(back, uuid);
}

static void test_dm_refuses(void **state UNUSED)
{
    static const char *const bad[] = {
        "",
        "CRYPT",
        "CRYPT-LUKS2-",
        "CRYPT-LUKS1-123e4567e89b42d3a456426614174000-n",
        "CRYPT-LUKS2-123e4567e89b42d3a45642661417400-n",
        "CRYPT-LUKS2-123e4567e89b42d3a456426614174000",
        "CRYPT-LUKS2-123e4567e89b42d3a456426614174000-",
        "CRYPT-LUKS2-123e4567e89b42d3a456426614174000-m",
        "CRYPT-LUKS2-123e4567e89b42d3a456426614174000-nn",
        "CRYPT-LUKS2-123E4567e89b42d3a456426614174000-n",
        "TEMP-CRYPT-LUKS2-123e4567e89b42d3a456426614174000-n",
    };
    char back[37] = "old";

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(volume_uuid_from_dm(bad[i], "n", back), -1);
    assert_string_equal(back, "old");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parse_refuses),
        cmocka_unit_test(test_from_name),
        cmocka_unit_test(test_dm),
        cmocka_unit_test(test_dm_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

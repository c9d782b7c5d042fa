/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/sysmacros.h>
#include <cmocka.h>

#define UUID    "0a1b2c3d-4e5f-4607-8899-aabbccddeeff"
#define KEY     ":64:logon:cryptsetup:" UUID "-d"
#define ZEROS   "00000000000000000000000000000000"
#define RAW_KEY ZEROS ZEROS ZEROS ZEROS

static void accepts_ours(void **state)
{
    char why[128] = "";
    struct table_facts t = { .discards = true };

    assert_true(
        table_is_ours("aes-xts-plain64 " KEY "0 0 7:3 8192 1 sector_size:4096", UUID, &t, why));
    assert_int_equal(t.backing, makedev(7, 3));
    assert_false(t.discards);
    assert_true(table_is_ours("aes-xts-plain64 " KEY "1 0 259:1048575 8192 1 sector_size:4096",
                              UUID, &t, why));
    assert_int_equal(t.backing, makedev(259, 1048575));
    assert_true(table_is_ours(
        "aes-xts-plain64 " KEY "0 0 7:3 8192 2 allow_discards sector_size:4096", UUID, &t, why));
    assert_int_equal(t.backing, makedev(7, 3));
    assert_true(t.discards);
}

static void refuses_the_rest(void **state)
{
    static const struct {
        const char *params, *says;
    } rows[] = {
        { "", "0 words" },
        { "aes-xts-plain64 " KEY "0 0 7:3 8192", "5 words" },
        { "aes-xts-plain64 " KEY "0 0 7:3 8192 2 sector_size:4096 allow_discards", "option" },
        { "aes-xts-plain64 " KEY "0 0 7:3 8192 2 allow_discards sector_size:512", "second option" },
        { "aes-xts-plain64 " KEY "0 0 7:3 8192 2 allow_discards same_cpu_crypt", "second option" },
        { "aes-xts-plain64 " KEY "0 0 7:3 8192 1 allow_discards sector_size:4096",
          "number of options" },
        { "aes-xts-plain64 " KEY "0 0 7:3 8192 3 allow_discards same_cpu_crypt sector_size:4096",
          "9 words" },
        { "aes-xts-plain64 :32:logon:cryptsetup:" UUID
          "-d0 0 7:3 8192 2 allow_discards sector_size:4096",
          "keyring" },
        { "aes-cbc-plain64 " KEY "0 0 7:3 8192 1 sector_size:4096", "cipher" },
        { "cipher_null-ecb " KEY "0 0 7:3 8192 1 sector_size:4096", "cipher" },
        { "aes-xts-plain64 " KEY "0 1 7:3 8192 1 sector_size:4096", "IV offset" },
        { "aes-xts-plain64 " KEY "0 0 7:3 8193 1 sector_size:4096", "data offset" },
        { "aes-xts-plain64 " KEY "0 0 7:3 8192 1 sector_size:512", "option" },
        { "aes-xts-plain64 " KEY "0 0 7:3 8192 1 allow_discards", "option" },
        { "aes-xts-plain64 " KEY "2 0 7:3 8192 1 sector_size:4096", "keyring" },
        { "aes-xts-plain64 " KEY "00 0 7:3 8192 1 sector_size:4096", "keyring" },
        { "aes-xts-plain64 " KEY " 0 7:3 8192 1 sector_size:4096", "keyring" },
        { "aes-xts-plain64 :32:logon:cryptsetup:" UUID "-d0 0 7:3 8192 1 sector_size:4096",
          "keyring" },
        { "aes-xts-plain64 :64:user:cryptsetup:" UUID "-d0 0 7:3 8192 1 sector_size:4096",
          "keyring" },
        { "aes-xts-plain64 :64:logon:cryptsetup:ffffffff-4e5f-4607-8899-aabbccddeeff-d0 0 7:3 8192 "
          "1 sector_size:4096",
          "keyring" },
        { "aes-xts-plain64 " RAW_KEY " 0 7:3 8192 1 sector_size:4096", "keyring" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        char why[128] = "";
        struct table_facts t = { .discards = true };

        assert_false(table_is_ours(rows[i].params, UUID, &t, why));
        assert_false(t.discards);
        if (strstr(why, rows[i].says) == NULL)
            fail_msg("'%s' isn't in '%s'", rows[i].says, why);
        assert_null(strstr(why, "0000"));
    }
}

/* Even a table that isn't ours says which device it holds, or that it has none. */
static void reports_the_backing_device(void **state)
{
    char why[128];
    struct table_facts t = { .backing = 1 };

    assert_false(table_is_ours("aes-cbc-plain64 " RAW_KEY " 0 7:9 8192", UUID, &t, why));
    assert_int_equal(t.backing, makedev(7, 9));
    assert_false(
        table_is_ours("aes-xts-plain64 " KEY "0 0 (null) 8192 1 sector_size:4096", "x", &t, why));
    assert_int_equal(t.backing, 0);
    assert_false(
        table_is_ours("aes-xts-plain64 " KEY "0 0 7:-3 8192 1 sector_size:4096", "x", &t, why));
    assert_int_equal(t.backing, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_ours),
        cmocka_unit_test(refuses_the_rest),
        cmocka_unit_test(reports_the_backing_device),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/strbuf.h"

#include "common/cleanup.h"
#include "tests/support/nomem.h"
#include "tests/support/unit.h"
#include "tests/support/skip.h"

static void test_grow(void **state UNUSED)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(100000);

    assert_string_equal(strbuf_text(&sb), "");
    for (int i = 0; i < 5000; i++)
        strbuf_addf(&sb, "%04d,", i);
    assert_int_equal(sb.len, 25000);
    assert_memory_equal(strbuf_text(&sb), "0000,0001,", 10);
    assert_string_equal(strbuf_text(&sb) + 24995, "4999,");
    assert_works(strbuf_check(&sb, "x", &err));
    strbuf_add(&sb, "a\0b", 3);
    assert_int_equal(sb.len, 25003);
    strbuf_clear(&sb);
    assert_int_equal(sb.len, 0);
    assert_string_equal(strbuf_text(&sb), "");
}

static void test_limit(void **state UNUSED)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(8);

    strbuf_adds(&sb, "12345678");
    assert_false(sb.failed);
    strbuf_add(&sb, "", 0);
    assert_false(sb.failed);
    strbuf_adds(&sb, "9");
    assert_true(sb.failed);
    assert_string_equal(strbuf_text(&sb), "12345678");
    assert_fails(strbuf_check(&sb, "the list", &err), ERR_EXHAUSTED,
                 "the list is longer than 8 bytes");
    strbuf_clear(&sb);
    strbuf_addf(&sb, "%s", "123456789");
    assert_true(sb.failed);
    assert_string_equal(strbuf_text(&sb), "");
    strbuf_adds(&sb, "1"); /* would fit, but a text with a hole is worse than none */
    assert_string_equal(strbuf_text(&sb), "");
    assert_null(strbuf_detach(&sb));
    assert_false(sb.failed);
    strbuf_add(&sb, "x", SIZE_MAX);
    assert_true(sb.failed);
}

static void test_detach(void **state UNUSED)
{
    struct strbuf sb = STRBUF_INIT(8);
    AUTO_FREE char *empty = strbuf_detach(&sb);
    AUTO_FREE char *text = NULL;

    assert_string_equal(empty, "");
    strbuf_adds(&sb, "abc");
    text = strbuf_detach(&sb);
    assert_string_equal(text, "abc");
    assert_null(sb.buf);
    assert_int_equal(sb.len, 0);
    strbuf_release(&sb);
}

/* What it gives back when it grows and at its end: test_client_leaves.c. */
static void test_wiped(void **state UNUSED)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_WIPED_INIT(100000);

    for (int i = 0; i < 5000; i++)
        strbuf_addf(&sb, "%04d,", i);
    assert_int_equal(sb.len, 25000);
    assert_memory_equal(strbuf_text(&sb), "0000,0001,", 10);
    assert_string_equal(strbuf_text(&sb) + 24995, "4999,");
    strbuf_clear(&sb);
    assert_string_equal(strbuf_text(&sb), "");
}

static void test_no_memory(void **state UNUSED)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(10000);
    bool failed;

    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    strbuf_adds(&sb, "before");
    nomem_arm(1);
    for (int i = 0; i < 100; i++)
        strbuf_addf(&sb, "%03d", i);
    failed = nomem_disarm();
    assert_true(failed);
    assert_true(sb.failed);
    assert_memory_equal(strbuf_text(&sb), "before000", 9);
    assert_int_equal(strlen(strbuf_text(&sb)), sb.len);
}

static void test_str_copy(void **state UNUSED)
{
    char dst[4] = "old";

    assert_int_equal(str_copy(dst, sizeof(dst), "long"), -1);
    assert_string_equal(dst, "old");
    assert_int_equal(str_copy(dst, sizeof(dst), "new"), 0);
    assert_string_equal(dst, "new");
    assert_int_equal(str_copy(dst, 0, ""), -1);
    assert_int_equal(str_copy(dst, 1, ""), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grow),      cmocka_unit_test(test_limit),
        cmocka_unit_test(test_detach),    cmocka_unit_test(test_wiped),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_str_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

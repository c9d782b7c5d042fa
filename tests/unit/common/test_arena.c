/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/arena.h"

#include "tests/support/nomem.h"
#include "tests/support/unit.h"
#include "tests/support/skip.h"

static bool all_zero(const unsigned char *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] != 0)
            return false;
    return true;
}

static void test_alloc(void **state UNUSED)
{
    AUTO_ARENA struct arena *a = arena_new(1 << 20);

    for (size_t size = 0; size < 6000; size += 37) {
        unsigned char *p = arena_alloc(a, size);

        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        assert_true(all_zero(p, size));
        memset(p, 0xa5, size);
    }
    assert_string_equal(arena_strdup(a, "text"), "text");
    assert_string_equal(arena_printf(a, "%s-%d", "n", 5), "n-5");
    assert_string_equal(arena_printf(a, "%s", ""), "");
}

static void test_limit(void **state UNUSED)
{
    AUTO_ARENA struct arena *a = arena_new(1024);

    assert_null(arena_alloc(a, 1025));
    assert_null(arena_alloc(a, SIZE_MAX));
    assert_null(arena_alloc(a, SIZE_MAX - 8));
    assert_non_null(arena_alloc(a, 1008));
    assert_null(arena_alloc(a, 17));
    assert_non_null(arena_alloc(a, 16));
    assert_null(arena_alloc(a, 1));
    assert_null(arena_strdup(a, ""));
    assert_null(arena_printf(a, "x"));
    arena_reset(a);
    assert_non_null(arena_alloc(a, 1024));
}

static void test_reset_wipes(void **state UNUSED)
{
    AUTO_ARENA struct arena *a = arena_new(1 << 20);
    unsigned char *p = arena_alloc(a, 1000);

    memset(p, 0x5a, 1000);
    arena_reset(a);
    /* the block of the first request is kept for the next: its bytes can still be looked at */
    assert_true(all_zero(p, 1000));
    assert_ptr_equal(arena_alloc(a, 10), p);
}

static void test_reset_keeps_one_small(void **state UNUSED)
{
    AUTO_ARENA struct arena *a = arena_new(1 << 20);

    for (int round = 0; round < 3; round++) {
        assert_non_null(arena_alloc(a, 300000));
        assert_non_null(arena_alloc(a, 4000));
        assert_non_null(arena_alloc(a, 4000));
        arena_reset(a);
    }
    arena_free(NULL);
}

static void test_no_memory(void **state UNUSED)
{
    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    AUTO_ARENA struct arena *a = arena_new(1 << 20);
    void *p;

    nomem_arm(1);
    p = arena_alloc(a, 10);
    assert_true(nomem_disarm());
    assert_null(p);
    assert_non_null(arena_alloc(a, 10));
    nomem_arm(1);
    p = arena_new(10);
    assert_true(nomem_disarm());
    assert_null(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc),       cmocka_unit_test(test_limit),
        cmocka_unit_test(test_reset_wipes), cmocka_unit_test(test_reset_keeps_one_small),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

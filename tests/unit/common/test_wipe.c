/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/wipe.h"
#include "tests/support/nomem.h"
#include "tests/support/skip.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void test_realloc_keeps_the_text(void **state UNUSED)
{
    char *p = wipe_strdup("a token");

    for (size_t size = 8; size < 100000; size *= 3) {
        p = wipe_realloc(p, size);
        assert_non_null(p);
        assert_string_equal(p, "a token");
        memset(p + 8, 'x', size - 8);
    }
    p = wipe_realloc(p, 8);
    assert_string_equal(p, "a token");
    wipe_free(p);
    wipe_free(NULL);
    p = wipe_realloc(NULL, 4);
    assert_non_null(p);
    wipe_free(p);
    p = wipe_calloc(3, 5);
    for (int i = 0; i < 15; i++)
        assert_int_equal(p[i], 0);
    wipe_free(p);
}

static void test_lacked(void **state UNUSED)
{
    void *p;

    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    wipe_watch();
    assert_false(wipe_lacked());
    assert_false(wipe_ever_lacked());
    nomem_arm(1);
    p = wipe_malloc(8);
    (void)nomem_disarm();
    assert_null(p);
    assert_true(wipe_lacked());
    assert_true(wipe_lacked());
    wipe_watch();
    assert_false(wipe_lacked());
    assert_true(wipe_ever_lacked());
}

static void test_buffer(void **state UNUSED)
{
    struct wipe_buffer b = WIPE_BUFFER_INIT;

    for (int i = 0; i < 1000; i++)
        assert_int_equal(wipe_buffer_add(&b, "0123456789", 10, 10000), 0);
    assert_int_equal(b.len, 10000);
    assert_int_equal(strlen(b.bytes), 10000);
    assert_int_equal(wipe_buffer_add(&b, "x", 1, 10000), -1);
    assert_int_equal(wipe_buffer_add(&b, "x", SIZE_MAX, SIZE_MAX - 1), -1);
    assert_int_equal(b.len, 10000);
    wipe_buffer_release(&b);
    assert_null(b.bytes);
    assert_int_equal(wipe_buffer_add(&b, "", 0, 10), 0);
    assert_string_equal(b.bytes, "");
    wipe_buffer_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_realloc_keeps_the_text),
        cmocka_unit_test(test_lacked),
        cmocka_unit_test(test_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

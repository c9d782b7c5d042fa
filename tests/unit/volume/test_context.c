/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/context.h"

#include "common/b64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* Values from Python: hashlib.sha256(b"".join(len(x).to_bytes(4, "big") + x for x in tuple)) */
static const struct {
    const char *tenant, *volume_id, *uuid, *want;
} vectors[] = {
    { "team-a", "fast.0a1b2c3d.00112233445566778899aabbccddeeff",
      "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
      "096d55f828bfa7e3044d6f589c7327dd5523ea31f4d7a265ea43c38fbd86f9e1" },
    { "lab", "default.ffffffff.ffffffffffffffffffffffffffffffff",
      "00000000-0000-4000-8000-000000000000",
      "2424a7627389f0c390017bf511bba6e0141c147fde65910dcc36f8e4efc3627f" },
    { "", "", "", "fe2eb772dc1f3e9678bdc9a5a4b20b0611d37f2454de7f42a51479356a7e3333" },
};

static void test_vectors(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
        unsigned char context[CONTEXT_SIZE];
        char hex[2 * CONTEXT_SIZE + 1];
        context_compute(vectors[i].tenant, vectors[i].volume_id, vectors[i].uuid, context);
        hex_encode(hex, context, sizeof(context));
        assert_string_equal(hex, vectors[i].want);
    }
}

/* The lengths keep the borders between the elements. */
static void test_borders(void **state UNUSED)
{
    unsigned char a[CONTEXT_SIZE], b[CONTEXT_SIZE];
    context_compute("ab", "c", "d", a);
    context_compute("a", "bc", "d", b);
    assert_memory_not_equal(a, b, sizeof(a));
    context_compute("ab", "", "cd", b);
    assert_memory_not_equal(a, b, sizeof(a));
}

static void test_recipient(void **state UNUSED)
{
    unsigned char context[CONTEXT_SIZE], info[CONTEXT_RECIPIENT_SIZE];
    context_compute("a", "b", "c", context);
    context_recipient(context, info);
    assert_memory_equal(info, "coffer/v1 recipient", 19);
    assert_memory_equal(info + 19, context, sizeof(context));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_vectors),
                                        cmocka_unit_test(test_borders),
                                        cmocka_unit_test(test_recipient) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "tests/support/unit.h"

#include "common/text.h"

#include <inttypes.h>
#include <stdio.h>

#define BLOCK ((size_t)1 << 20)

/* Of the program's file, as one that is mapped: bytes that no start-up code lies beside. */
static const unsigned char block[BLOCK] = { [0] = 1, [BLOCK / 2] = 2, [BLOCK - 1] = 3 };
static unsigned char changed[4096] = { 4 };

static unsigned sum_of_block(void)
{
    const volatile unsigned char *p = block;
    unsigned sum = 0;

    for (size_t i = 0; i < BLOCK; i++)
        sum += p[i];
    return sum;
}

/* kB of what lies around `address`. */
static unsigned resident(const void *address)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    char line[512];
    bool here = false;
    unsigned kb = 0;

    assert_non_null(f);
    while (fgets(line, sizeof(line), f) != NULL) {
        uintptr_t from, to;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2)
            here = (uintptr_t)address >= from && (uintptr_t)address < to;
        else if (here && sscanf(line, "Rss: %u kB", &kb) == 1)
            break;
    }
    assert_int_equal(fclose(f), 0);
    return kb;
}

static void test_goes_and_comes_back(void **state UNUSED)
{
    changed[0] = 5;
    assert_int_equal(sum_of_block(), 6);
    unsigned before = resident(block);
    assert_true(before >= BLOCK / 1024);
    text_forget_start();
    assert_true(resident(block) + BLOCK / 2048 < before);
    assert_int_equal(sum_of_block(), 6);
    assert_int_equal(changed[0], 5); /* what is written stays */
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_goes_and_comes_back) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

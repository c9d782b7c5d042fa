/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/broken.h"

#include "common/wipe.h"
#include "tests/support/nomem.h"
#include "tests/support/skip.h"
#include "tests/support/unit.h"

#include <signal.h>

static bool asked_to_end(void)
{
    sigset_t set;

    assert_int_equal(sigpending(&set), 0);
    return sigismember(&set, SIGTERM) == 1;
}

static void after(enum error_code code)
{
    struct error err = ERROR_INIT;

    (void)error_set(&err, code, "it failed");
    scheduler_end_when_broken(&err);
}

/* Once is enough, and only what may be libcrypto's. */
static void test_it_ends_once_memory_lacked(void **state UNUSED)
{
    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    after(ERR_UNAVAILABLE);
    assert_false(asked_to_end());
    nomem_arm(1);
    assert_null(wipe_malloc(8));
    (void)nomem_disarm();
    after(ERR_EXHAUSTED);
    after(ERR_NOT_FOUND);
    assert_false(asked_to_end());
    assert_false(scheduler_is_broken());
    after(ERR_INTERNAL);
    assert_true(asked_to_end());
    assert_true(scheduler_is_broken());
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_it_ends_once_memory_lacked) };
    sigset_t set;

    /* as main does */
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

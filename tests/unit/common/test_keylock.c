/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/keylock.h"

#include "tests/support/nomem.h"
#include "tests/support/unit.h"
#include "tests/support/skip.h"

#include <pthread.h>
#include <stdatomic.h>

#define THREADS 8
#define ROUNDS  20000

static void test_busy(void **state UNUSED)
{
    struct keylock *set = keylock_new();
    struct keylock_hold *a = NULL, *b = NULL, *none = NULL;

    assert_works(keylock_try(set, "a", &a, &err));
    assert_fails(keylock_try(set, "a", &none, &err), ERR_ABORTED,
                 "an operation on volume 'a' is under way");
    assert_null(none);
    assert_works(keylock_try(set, "b", &b, &err));
    keylock_hold_free(a);
    assert_works(keylock_try(set, "a", &a, &err));
    keylock_hold_free(b);
    assert_fails(keylock_try(set, "a", &none, &err), ERR_ABORTED,
                 "an operation on volume 'a' is under way");
    keylock_hold_free(a);
    keylock_hold_free(NULL);
    keylock_free(set);
    keylock_free(NULL);
}

static void test_scope(void **state UNUSED)
{
    struct keylock *set = keylock_new();

    for (int i = 0; i < 3; i++) {
        AUTO_KEYLOCK struct keylock_hold *hold = NULL;

        assert_works(keylock_try(set, "x", &hold, &err));
    }
    keylock_free(set);
}

struct race {
    struct keylock *set;
    atomic_int inside[2];
    atomic_int overlaps;
    atomic_int taken;
};

static void *contend(void *arg)
{
    struct race *r = arg;
    static const char *const keys[] = { "one", "two" };

    for (int i = 0; i < ROUNDS; i++) {
        struct keylock_hold *hold = NULL;

        if (keylock_try(r->set, keys[i % 2], &hold, NULL) < 0)
            continue;
        if (atomic_fetch_add(&r->inside[i % 2], 1) != 0)
            (void)atomic_fetch_add(&r->overlaps, 1);
        (void)atomic_fetch_add(&r->taken, 1);
        (void)atomic_fetch_sub(&r->inside[i % 2], 1);
        keylock_hold_free(hold);
    }
    return NULL;
}

static void test_threads(void **state UNUSED)
{
    struct race r = { .set = keylock_new() };
    pthread_t threads[THREADS];

    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, contend, &r), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&r.overlaps), 0);
    assert_true(atomic_load(&r.taken) > 0);
    keylock_free(r.set);
}

static void test_no_memory(void **state UNUSED)
{
    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    struct keylock *set = keylock_new();
    struct keylock_hold *hold = NULL;
    struct error why = ERROR_INIT;
    int rc;

    nomem_arm(1);
    rc = keylock_try(set, "a", &hold, &why);
    assert_true(nomem_disarm());
    assert_int_equal(rc, -1);
    assert_int_equal(why.code, ERR_EXHAUSTED);
    assert_works(keylock_try(set, "a", &hold, &err));
    keylock_hold_free(hold);
    keylock_free(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_scope),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

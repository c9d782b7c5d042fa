/* SPDX-License-Identifier: Apache-2.0 */
/* Which operation a worker gets. The rows of the other workers are written down, not run. */
#include "common/base.h"
#include "scheduler/queue.h"

#include "common/deadline.h"
#include "tests/unit/scheduler/played_driver.h"

#include <pthread.h>
#include <unistd.h>

static struct scheduler *const s = &played_scheduler;

static int begin(void **state)
{
    (void)alarm(600); /* who waits for what never comes ends so */
    (void)played_begin(state);
    memset(s->at_work, 0, sizeof(s->at_work));
    s->n_nodes = 3;
    scheduler_lock(s);
    return 0;
}

static int end(void **state)
{
    scheduler_unlock(s);
    assert_null(s->queue);
    return played_end(state);
}

static struct operation *put_due(const char *node, uint64_t due)
{
    struct operation *op = NULL;

    assert_works(operation_new(OPERATION_MOUNT, ID, &op, &err));
    memcpy(op->node, node, strlen(node) + 1);
    op->due = due;
    queue_put(s, op);
    return op;
}

static struct operation *put(const char *node)
{
    return put_due(node, 0);
}

/* The queue gives that one to a worker that had `at` before. */
static void takes(struct operation *want, struct at_work **at)
{
    struct operation *got = queue_take(s, at);

    assert_ptr_equal(got, want);
    assert_true((*at)->busy);
    operation_free(got);
}

static void takes_new(struct operation *want)
{
    struct at_work *at = NULL;

    takes(want, &at);
}

/* More workers have clouds of that node in hand. Returns a row of theirs. */
static struct at_work *has(const char *node, size_t n)
{
    struct at_work *ret = NULL;

    for (size_t i = 0; i < WORKERS && n > 0; i++) {
        if (s->at_work[i].busy)
            continue;
        ret = &s->at_work[i];
        ret->busy = true;
        memcpy(ret->node, node, strlen(node) + 1);
        n--;
    }
    assert_int_equal(n, 0);
    return ret;
}

static void test_in_turn(void **state UNUSED)
{
    const uint64_t now = clock_ms();
    struct operation *last = put_due("n1", now), *first = put_due("n1", now - 10);
    struct operation *second = put_due("n1", now - 10);

    takes_new(first);
    takes_new(second);
    takes_new(last);
}

static void test_not_before_it_is_due(void **state UNUSED)
{
    const uint64_t due = deadline_in(100);
    struct operation *later = put_due("n1", due);
    struct operation *now = put("n1");

    takes_new(now);
    takes_new(later);
    assert_true(clock_ms() >= due);
}

static void test_a_row_each(void **state UNUSED)
{
    struct at_work *at[WORKERS] = { NULL }, *mine = NULL;

    s->n_nodes = 1;
    for (size_t i = 0; i < WORKERS; i++) {
        takes(put("n1"), &at[i]);
        for (size_t k = 0; k < i; k++)
            assert_ptr_not_equal(at[k], at[i]);
        assert_string_equal(at[i]->node, "n1");
    }
    mine = at[7];
    takes(put("n2"), &mine);
    assert_ptr_equal(mine, at[7]); /* the one that it gave back */
    assert_string_equal(mine->node, "n2");
}

/* Where its cloud is known to be counts, not where it is asked for. */
static void test_the_node_of_its_cloud(void **state UNUSED)
{
    struct at_work *at = NULL;

    memcpy(played_add(ID)->node, "n2", sizeof("n2"));
    scheduler_unlock(s);
    scheduler_round(s);
    scheduler_lock(s);
    takes(put("n1"), &at);
    assert_string_equal(at->node, "n2");
}

static void test_a_node_that_hangs(void **state UNUSED)
{
    struct operation *waits = put("n1"), *other;
    struct at_work *theirs = has("n1", WORKERS / 2), *at = NULL;

    other = put("n2");
    takes(other, &at);
    /* a worker of n1's comes back: for n1, as it is its turn, and again as there is nobody else */
    takes(waits, &theirs);
    waits = put("n1");
    at->busy = false;
    takes(waits, &theirs);
}

/* The second one gets half of what the first one left; a third one's users wait for neither. */
static void test_two_nodes_that_hang(void **state UNUSED)
{
    struct operation *first = put("n1"), *second = put("n2"), *third = put("n3");
    struct at_work *at = NULL, *theirs;

    (void)has("n1", WORKERS / 2);
    theirs = has("n2", WORKERS / 4);
    takes(third, &at);
    takes(second, &theirs);
    s->n_nodes = 1; /* where there is one, it gets all */
    takes_new(first);
}

/* Of whom no node is known, too, is a worker less for the others. */
static void test_no_node_is_known(void **state UNUSED)
{
    struct operation *waits = put("n1"), *unknown = put("");
    struct at_work *theirs = has("n1", 5);

    (void)has("", 6);
    takes_new(unknown); /* it may always begin */
    takes(waits, &theirs);
}

/* ---- who waits ---- */

struct taker {
    pthread_t thread;
    bool waits; /* as soon as the lock is free: it gives it away nowhere but where it waits */
    struct operation *got;
};

static void *take_one(void *taker)
{
    struct taker *t = taker;
    struct at_work *at = NULL;

    scheduler_lock(s);
    t->waits = true;
    t->got = queue_take(s, &at);
    scheduler_unlock(s);
    return NULL;
}

static void begins_to_wait(struct taker *t)
{
    assert_int_equal(pthread_create(&t->thread, NULL, take_one, t), 0);
    for (unsigned int i = 0; i < 12000 && !t->waits; i++) {
        scheduler_unlock(s);
        sleep_ms(10);
        scheduler_lock(s);
    }
    assert_true(t->waits);
    assert_null(t->got);
}

/* It has been woken, or waits for ever (alarm()). */
static void got(struct taker *t, struct operation *want)
{
    scheduler_unlock(s);
    assert_int_equal(pthread_join(t->thread, NULL), 0);
    scheduler_lock(s);
    assert_ptr_equal(t->got, want);
    operation_free(t->got);
}

static void test_who_waits_is_woken(void **state UNUSED)
{
    struct taker t = { .got = NULL };

    begins_to_wait(&t);
    got(&t, put("n1"));
}

/* A worker that comes back can let two begin: one it takes itself. */
static void test_one_end_and_two_begin(void **state UNUSED)
{
    struct operation *a = put("n2"), *b = put("n1");
    struct at_work *theirs = has("n1", 5);
    struct taker t = { .got = NULL };

    (void)has("n2", 5);
    (void)has("n3", 1);
    begins_to_wait(&t); /* 5 are free, and each has 5 */
    takes(a, &theirs);
    got(&t, b);
}

#define QUEUE_TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        QUEUE_TEST(test_in_turn),
        QUEUE_TEST(test_not_before_it_is_due),
        QUEUE_TEST(test_a_row_each),
        QUEUE_TEST(test_the_node_of_its_cloud),
        QUEUE_TEST(test_a_node_that_hangs),
        QUEUE_TEST(test_two_nodes_that_hang),
        QUEUE_TEST(test_no_node_is_known),
        QUEUE_TEST(test_who_waits_is_woken),
        QUEUE_TEST(test_one_end_and_two_begin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

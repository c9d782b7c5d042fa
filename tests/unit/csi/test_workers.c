/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "common/deadline.h"
#include "csi/workers.h"

#include <dirent.h>
#include <stdatomic.h>

struct counter {
    atomic_int running, most, done;
    atomic_bool open; /* jobs wait for it */
};

struct job {
    struct worker_job job; /* first */
    struct counter *counter;
    int number, order;
};

static void run(struct worker_job *pj)
{
    struct job *j = (struct job *)pj;
    struct counter *c = j->counter;
    int now = atomic_fetch_add(&c->running, 1) + 1;
    int most = atomic_load(&c->most);
    while (most < now && !atomic_compare_exchange_weak(&c->most, &most, now))
        ;
    while (!atomic_load(&c->open))
        sleep_ms(1);
    atomic_fetch_sub(&c->running, 1);
    j->order = atomic_fetch_add(&c->done, 1);
}

static size_t threads_now(void)
{
    size_t n = 0;
    DIR *d = opendir("/proc/self/task");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static struct workers *make(unsigned max)
{
    struct error err = ERROR_INIT;
    struct workers *w = workers_new(max, &err);
    assert_non_null(w);
    return w;
}

static void submit(struct workers *w, struct job *jobs, size_t n, struct counter *c)
{
    struct error err = ERROR_INIT;
    for (size_t i = 0; i < n; i++) {
        jobs[i] = (struct job){ .job.run = run, .counter = c, .number = (int)i, .order = -1 };
        assert_int_equal(workers_submit(w, &jobs[i].job, &err), 0);
    }
}

static void wait_for(atomic_int *what, int value)
{
    for (uint64_t until = deadline_in(60000); atomic_load(what) != value; sleep_ms(1))
        assert_true(deadline_left(until) > 0);
}

static void runs_all_and_at_most_max_at_once(void **state)
{
    struct counter c = { 0 };
    struct job jobs[200];
    struct workers *w = make(8);
    submit(w, jobs, ARRAY_SIZE(jobs), &c);
    wait_for(&c.running, 8);
    atomic_store(&c.open, true);
    workers_free(w);
    assert_int_equal(atomic_load(&c.done), ARRAY_SIZE(jobs));
    assert_int_equal(atomic_load(&c.most), 8);
}

static void one_worker_keeps_the_order(void **state)
{
    struct counter c = { 0 };
    struct job jobs[50];
    struct workers *w = make(1);
    submit(w, jobs, ARRAY_SIZE(jobs), &c);
    atomic_store(&c.open, true);
    workers_free(w);
    for (size_t i = 0; i < ARRAY_SIZE(jobs); i++)
        assert_int_equal(jobs[i].order, i);
}

static void threads_come_when_needed(void **state)
{
    struct counter c = { 0 };
    struct job first, second;
    size_t before = threads_now();
    struct workers *w = make(32);
    assert_int_equal(threads_now(), before);
    atomic_store(&c.open, true);
    submit(w, &first, 1, &c);
    wait_for(&c.done, 1);
    assert_true(workers_wait(w, deadline_in(60000))); /* then the worker is idle again */
    submit(w, &second, 1, &c);
    wait_for(&c.done, 2);
    assert_int_equal(threads_now(), before + 1);
    workers_free(w);
    assert_int_equal(threads_now(), before);
}

static void waits_for_queued_and_running_jobs(void **state)
{
    struct counter c = { 0 };
    struct job jobs[5];
    struct workers *w = make(2);
    assert_true(workers_wait(w, clock_ms()));
    submit(w, jobs, ARRAY_SIZE(jobs), &c);
    assert_false(workers_wait(w, deadline_in(50)));
    atomic_store(&c.open, true);
    assert_true(workers_wait(w, deadline_in(60000)));
    assert_int_equal(atomic_load(&c.done), ARRAY_SIZE(jobs));
    workers_free(w);
}

static void freeing_runs_what_is_queued(void **state)
{
    struct counter c = { 0 };
    struct job jobs[20];
    struct workers *w = make(2);
    atomic_store(&c.open, true);
    submit(w, jobs, ARRAY_SIZE(jobs), &c);
    workers_free(w);
    assert_int_equal(atomic_load(&c.done), ARRAY_SIZE(jobs));
    workers_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_all_and_at_most_max_at_once),
        cmocka_unit_test(one_worker_keeps_the_order),
        cmocka_unit_test(threads_come_when_needed),
        cmocka_unit_test(waits_for_queued_and_running_jobs),
        cmocka_unit_test(freeing_runs_what_is_queued),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/scheduler.h"

#include "common/deadline.h"
#include "common/thread.h"

#include <time.h>

static int init_locks(struct scheduler *s, struct error *err)
{
    pthread_condattr_t attr;
    int rc = pthread_condattr_init(&attr);

    if (rc == 0)
        rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    if (rc == 0)
        rc = pthread_cond_init(&s->changed, &attr);
    if (rc == 0)
        rc = pthread_cond_init(&s->ended, &attr);
    if (rc == 0)
        rc = pthread_mutex_init(&s->lock, NULL);
    return rc == 0 ? 0 : error_errno(err, rc, "make a lock");
}

int scheduler_init(struct scheduler *s, const struct scheduler_config *config, struct error *err)
{
    s->config = config;
    if (init_locks(s, err) < 0 || cloud_table_new(&s->table, err) < 0 ||
        proofs_new(&s->proofs, err) < 0)
        return -1;
    return config->driver->open(config->options, config, &s->driver, err);
}

int scheduler_start(struct scheduler *s, struct error *err)
{
    static struct thread_round round = { .run = scheduler_round, .period_ms = ROUND_MS };

    round.ctx = s;
    for (unsigned int i = 0; i < WORKERS; i++) {
        if (thread_start(scheduler_worker, s, "operations", err) < 0)
            return -1;
    }
    return thread_start_rounds(&round, "the rounds", err);
}

bool scheduler_drain(struct scheduler *s, uint64_t deadline)
{
    const struct timespec ts = { .tv_sec = (time_t)(deadline / 1000),
                                 .tv_nsec = (long)(deadline % 1000) * 1000000 };
    bool drained;

    scheduler_lock(s);
    s->stopping = true;
    while (s->n_operations > 0 && deadline_left(deadline) > 0)
        (void)pthread_cond_timedwait(&s->ended, &s->lock, &ts);
    drained = s->n_operations == 0;
    scheduler_unlock(s);
    return drained;
}

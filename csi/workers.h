/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workers.h: at most `max` threads that run jobs in the order they came. A thread is started when a
 * job waits and none is idle; it then lives until workers_free (a child with PR_SET_PDEATHSIG must
 * not outlive its thread's work, so threads don't come and go). The queue has no limit of its own:
 * the server bounds the number of calls. Jobs are the caller's memory and may be reused once `run`
 * was entered.
 */
#ifndef COFFER_CSI_WORKERS_H
#define COFFER_CSI_WORKERS_H

#include "common/base.h"
#include "common/error.h"

struct workers;

struct worker_job {
    void (*run)(struct worker_job *job);
    struct worker_job *next; /* the queue's */
};

struct workers *workers_new(unsigned max, struct error *err) MUST_CHECK;
/* Thread-safe. -1 only when not even one thread exists or can be made: the job was not taken. */
int workers_submit(struct workers *w, struct worker_job *job, struct error *err) MUST_CHECK;
/* Waits until no job is queued or running; false when some still are at the deadline. */
bool workers_wait(struct workers *w, uint64_t deadline) MUST_CHECK;
/* Runs what is queued to its end, then joins all threads. Nothing may be submitted any more. NULL
 * is fine. */
void workers_free(struct workers *w);

#endif

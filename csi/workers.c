/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "csi/workers.h"

#include <pthread.h>

struct workers {
    pthread_mutex_t lock;
    pthread_cond_t work, quiet;
    struct worker_job *head, **tail;
    pthread_t *threads;
    size_t n_threads, max, idle, queued, running;
    bool closing;
};

static struct worker_job *take_job(struct workers *w)
{
    struct worker_job *job = w->head;
    if (job == NULL)
        return NULL;
    w->head = job->next;
    if (w->head == NULL)
        w->tail = &w->head;
    w->queued--;
    return job;
}

static void *worker(void *arg)
{
    struct workers *w = arg;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        struct worker_job *job = take_job(w);
        if (job != NULL) {
            w->running++;
            pthread_mutex_unlock(&w->lock);
            job->run(job);
            pthread_mutex_lock(&w->lock);
            w->running--;
            if (w->running == 0 && w->queued == 0)
                pthread_cond_broadcast(&w->quiet);
            continue;
        }
        if (w->closing)
            break;
        w->idle++;
        pthread_cond_wait(&w->work, &w->lock);
        w->idle--;
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* Locked. */
static int start_thread(struct workers *w)
{
    int rc = pthread_create(&w->threads[w->n_threads], NULL, worker, w);
    if (rc == 0)
        w->n_threads++;
    return rc;
}

struct workers *workers_new(unsigned max, struct error *err)
{
    pthread_condattr_t attr;
    struct workers *w = calloc(1, sizeof(*w));
    pthread_t *threads = calloc(max, sizeof(*threads));
    if (w == NULL || threads == NULL) {
        free(w);
        free(threads);
        error_memory(err);
        return NULL;
    }
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->work, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->quiet, &attr);
    pthread_condattr_destroy(&attr);
    w->tail = &w->head;
    w->threads = threads;
    w->max = max;
    return w;
}

int workers_submit(struct workers *w, struct worker_job *job, struct error *err)
{
    int rc = 0;
    pthread_mutex_lock(&w->lock);
    if (w->queued >= w->idle && w->n_threads < w->max)
        rc = start_thread(w);
    bool taken = w->n_threads > 0; /* a thread too few only makes it slower */
    if (taken) {
        job->next = NULL;
        *w->tail = job;
        w->tail = &job->next;
        w->queued++;
        pthread_cond_signal(&w->work);
    }
    pthread_mutex_unlock(&w->lock);
    if (taken)
        return 0;
    (void)error_errno(err, rc, "start a worker thread");
    return error_recode(err,
                        ERR_EXHAUSTED); /* EAGAIN too: nothing was done, it is to be repeated */
}

bool workers_wait(struct workers *w, uint64_t deadline)
{
    struct timespec ts = { .tv_sec = (time_t)(deadline / 1000),
                           .tv_nsec = (long)(deadline % 1000) * 1000000 };
    int rc = 0;
    pthread_mutex_lock(&w->lock);
    while (rc == 0 && (w->running > 0 || w->queued > 0))
        rc = pthread_cond_timedwait(&w->quiet, &w->lock, &ts);
    bool quiet = w->running == 0 && w->queued == 0;
    pthread_mutex_unlock(&w->lock);
    return quiet;
}

void workers_free(struct workers *w)
{
    if (w == NULL)
        return;
    pthread_mutex_lock(&w->lock);
    w->closing = true;
    pthread_cond_broadcast(&w->work);
    pthread_mutex_unlock(&w->lock);
    for (size_t i = 0; i < w->n_threads; i++)
        pthread_join(w->threads[i], NULL);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->work);
    pthread_cond_destroy(&w->quiet);
    free(w->threads);
    free(w);
}

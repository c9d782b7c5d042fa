/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "csi/pool.h"

#include <pthread.h>

#define STACK_BYTES (1u << 20)

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t work, quiet;
    struct pool_job *head, **tail;
    pthread_t *threads;
    size_t n_threads, max, idle, queued, running;
    bool closing;
};

static struct pool_job *take_job(struct pool *p)
{
    struct pool_job *job = p->head;
    if (job == NULL)
        return NULL;
    p->head = job->next;
    if (p->head == NULL)
        p->tail = &p->head;
    p->queued--;
    return job;
}

static void *worker(void *arg)
{
    struct pool *p = arg;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        struct pool_job *job = take_job(p);
        if (job != NULL) {
            p->running++;
            pthread_mutex_unlock(&p->lock);
            job->run(job);
            pthread_mutex_lock(&p->lock);
            p->running--;
            if (p->running == 0 && p->queued == 0)
                pthread_cond_broadcast(&p->quiet);
            continue;
        }
        if (p->closing)
            break;
        p->idle++;
        pthread_cond_wait(&p->work, &p->lock);
        p->idle--;
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* Locked. */
static int start_thread(struct pool *p)
{
    pthread_attr_t attr;
    int rc = pthread_attr_init(&attr);
    if (rc != 0)
        return rc;
    (void)pthread_attr_setstacksize(&attr, STACK_BYTES);
    rc = pthread_create(&p->threads[p->n_threads], &attr, worker, p);
    pthread_attr_destroy(&attr);
    if (rc == 0)
        p->n_threads++;
    return rc;
}

struct pool *pool_new(unsigned max, struct error *err)
{
    pthread_condattr_t attr;
    struct pool *p = calloc(1, sizeof(*p));
    pthread_t *threads = calloc(max, sizeof(*threads));
    if (p == NULL || threads == NULL) {
        free(p);
        free(threads);
        error_set(err, ERR_EXHAUSTED, "out of memory");
        return NULL;
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->quiet, &attr);
    pthread_condattr_destroy(&attr);
    p->tail = &p->head;
    p->threads = threads;
    p->max = max;
    return p;
}

int pool_submit(struct pool *p, struct pool_job *job, struct error *err)
{
    int rc = 0;
    pthread_mutex_lock(&p->lock);
    if (p->queued >= p->idle && p->n_threads < p->max)
        rc = start_thread(p);
    bool taken = p->n_threads > 0; /* a thread too few only makes it slower */
    if (taken) {
        job->next = NULL;
        *p->tail = job;
        p->tail = &job->next;
        p->queued++;
        pthread_cond_signal(&p->work);
    }
    pthread_mutex_unlock(&p->lock);
    return taken ? 0 : error_errno(err, rc, "start a worker thread");
}

bool pool_wait(struct pool *p, uint64_t deadline)
{
    struct timespec ts = { .tv_sec = (time_t)(deadline / 1000),
                           .tv_nsec = (long)(deadline % 1000) * 1000000 };
    int rc = 0;
    pthread_mutex_lock(&p->lock);
    while (rc == 0 && (p->running > 0 || p->queued > 0))
        rc = pthread_cond_timedwait(&p->quiet, &p->lock, &ts);
    bool quiet = p->running == 0 && p->queued == 0;
    pthread_mutex_unlock(&p->lock);
    return quiet;
}

void pool_free(struct pool *p)
{
    if (p == NULL)
        return;
    pthread_mutex_lock(&p->lock);
    p->closing = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (size_t i = 0; i < p->n_threads; i++)
        pthread_join(p->threads[i], NULL);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->quiet);
    free(p->threads);
    free(p);
}

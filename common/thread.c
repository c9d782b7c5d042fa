/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/thread.h"

#include "common/deadline.h"

#include <pthread.h>

#define STACK_BYTES (256u << 10)

int thread_start(void *(*run)(void *arg), void *arg, const char *what, struct error *err)
{
    pthread_attr_t attr;
    pthread_t thread;

    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    (void)pthread_attr_setstacksize(&attr, STACK_BYTES);
    int rc = pthread_create(&thread, &attr, run, arg);
    (void)pthread_attr_destroy(&attr);
    return rc == 0 ? 0 : error_errno(err, rc, "start the thread of %s", what);
}

static void *run_rounds(void *arg)
{
    const struct thread_round *r = arg;

    for (;;) {
        r->run(r->ctx);
        sleep_ms(r->period_ms);
    }
    return NULL;
}

int thread_start_rounds(const struct thread_round *r, const char *what, struct error *err)
{
    union {
        const struct thread_round *in;
        void *out; /* run_rounds only reads it */
    } u = { .in = r };

    return thread_start(run_rounds, u.out, what, err);
}

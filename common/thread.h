/* SPDX-License-Identifier: Apache-2.0 */
/* thread.h: threads for the rest of the process's life, with a small stack. Signals must be blocked
 * before (csi_server_init does). Thread-safe. */
#ifndef COFFER_COMMON_THREAD_H
#define COFFER_COMMON_THREAD_H

#include "common/base.h"
#include "common/error.h"

/* what: for the error's text. `run` must not return before the process ends, or own nothing. */
int thread_start(void *(*run)(void *arg), void *arg, const char *what,
                 struct error *err) MUST_CHECK;

/* Calls `run` at once and then every period_ms after it returned. */
struct thread_round {
    void (*run)(void *ctx);
    void *ctx;
    uint64_t period_ms;
};
/* `r` is borrowed for ever. */
int thread_start_rounds(const struct thread_round *r, const char *what,
                        struct error *err) MUST_CHECK;

#endif

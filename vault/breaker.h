/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault/breaker.h: stops asking a server that doesn't answer. After BREAKER_FAILURES in a row it is
 * open: nobody asks until a pause is over; then one request is the probe (half-open); its result
 * closes the breaker or opens it for twice as long. Pure: the time comes in.
 */
#ifndef COFFER_VAULT_BREAKER_H
#define COFFER_VAULT_BREAKER_H

#include "common/base.h"

#define BREAKER_FAILURES     5u
#define BREAKER_PAUSE_MIN_MS 1000u
#define BREAKER_PAUSE_MAX_MS 16000u

struct breaker {       /* all zero: closed */
    unsigned failures; /* in a row */
    uint64_t pause_ms, open_until;
    bool probing;
};

/* May a request go out now? True in half-open for one of them, which must report its result. */
bool breaker_allow(struct breaker *b, uint64_t now);
void breaker_success(struct breaker *b);
/* jitter: any random number; spreads the pause over 75 to 125 %. */
void breaker_failure(struct breaker *b, uint64_t now, uint32_t jitter);
/* A request ended without saying anything about the server (it was cancelled). */
void breaker_forget(struct breaker *b);
#define BREAKER_STATES 3
extern const char *const breaker_states[BREAKER_STATES];          /* closed, open, half-open */
const char *breaker_state(const struct breaker *b, uint64_t now); /* one of them */

/* The pause before attempt `n` (1 = the first repetition): 100 ms, doubled up to 2 s, 50 to 100 %
 * of it by jitter. */
uint64_t backoff_ms(unsigned n, uint32_t jitter);

#endif

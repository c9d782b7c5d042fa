/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deadline.h: CLOCK_MONOTONIC in milliseconds. A deadline is a point in that time; UINT64_MAX is
 * never. clock_us is for measuring. Thread-safe.
 */
#ifndef COFFER_COMMON_DEADLINE_H
#define COFFER_COMMON_DEADLINE_H

#include "common/base.h"

#define DEADLINE_NEVER UINT64_MAX

uint64_t clock_ms(void);
uint64_t clock_us(void);
uint64_t deadline_in(uint64_t ms);
uint64_t deadline_left(uint64_t deadline); /* 0 when passed */
/* The sooner of the two: `deadline`, and in so many milliseconds. */
uint64_t deadline_sooner(uint64_t deadline, uint64_t ms);
int deadline_poll_timeout(uint64_t deadline); /* for poll(2): -1 never, else 0..INT_MAX */
void sleep_ms(uint64_t ms);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * played_clock.h: all of common/deadline.h over a clock that stands still, for a program of one
 * thread: waiting passes the time at once. The program that includes it (one file) has these
 * instead of common/deadline.c, so all of them have to be here, or both would be linked.
 */
#ifndef COFFER_TESTS_SUPPORT_PLAYED_CLOCK_H
#define COFFER_TESTS_SUPPORT_PLAYED_CLOCK_H

#include "common/deadline.h"

static uint64_t now = 1000000; /* ms; the test may set it */

uint64_t clock_ms(void)
{
    return now;
}

uint64_t clock_us(void)
{
    return now * 1000;
}

uint64_t deadline_in(uint64_t ms)
{
    return ms > DEADLINE_NEVER - now ? DEADLINE_NEVER : now + ms;
}

uint64_t deadline_sooner(uint64_t deadline, uint64_t ms)
{
    return deadline_in(ms) < deadline ? deadline_in(ms) : deadline;
}

uint64_t deadline_left(uint64_t deadline)
{
    return deadline == DEADLINE_NEVER ? DEADLINE_NEVER : deadline > now ? deadline - now : 0;
}

/* The loop would wait: it is later at once. */
int deadline_poll_timeout(uint64_t deadline)
{
    now += deadline_left(deadline) < 50 ? deadline_left(deadline) : 50;
    return 0;
}

void sleep_ms(uint64_t ms)
{
    now += ms;
}

#endif

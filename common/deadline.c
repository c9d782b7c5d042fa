/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/deadline.h"

#include <errno.h>
#include <limits.h>
#include <time.h>

uint64_t clock_ms(void)
{
    struct timespec ts = { 0 };

    (void)clock_gettime(CLOCK_MONOTONIC, &ts); /* can't fail with this clock */
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t clock_us(void)
{
    struct timespec ts = { 0 };

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t deadline_in(uint64_t ms)
{
    uint64_t now = clock_ms();

    return ms >= DEADLINE_NEVER - now ? DEADLINE_NEVER : now + ms;
}

uint64_t deadline_sooner(uint64_t deadline, uint64_t ms)
{
    uint64_t soon = deadline_in(ms);

    return soon < deadline ? soon : deadline;
}

uint64_t deadline_left(uint64_t deadline)
{
    uint64_t now;

    if (deadline == DEADLINE_NEVER)
        return UINT64_MAX;
    now = clock_ms();
    return now >= deadline ? 0 : deadline - now;
}

int deadline_poll_timeout(uint64_t deadline)
{
    uint64_t left;

    if (deadline == DEADLINE_NEVER)
        return -1;
    left = deadline_left(deadline);
    return left > INT_MAX ? INT_MAX : (int)left;
}

void sleep_ms(uint64_t ms)
{
    struct timespec ts = { .tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000 };

    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, &ts) == EINTR)
        continue;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "vault/breaker.h"

#define BACKOFF_MIN_MS 100u
#define BACKOFF_MAX_MS 2000u

static bool is_open(const struct breaker *b)
{
    return b->failures >= BREAKER_FAILURES;
}

bool breaker_allow(struct breaker *b, uint64_t now)
{
    if (!is_open(b))
        return true;
    if (b->probing || now < b->open_until)
        return false;
    b->probing = true;
    return true;
}

void breaker_success(struct breaker *b)
{
    *b = (struct breaker){ .failures = 0 };
}

void breaker_failure(struct breaker *b, uint64_t now, uint32_t jitter)
{
    if (is_open(b) && !b->probing)
        return; /* it went out before the breaker opened: the same outage */
    b->failures++;
    b->probing = false;
    if (!is_open(b))
        return;
    b->pause_ms = b->pause_ms == 0 ? BREAKER_PAUSE_MIN_MS : 2 * b->pause_ms;
    if (b->pause_ms > BREAKER_PAUSE_MAX_MS)
        b->pause_ms = BREAKER_PAUSE_MAX_MS;
    b->open_until = now + b->pause_ms * 3 / 4 + jitter % (b->pause_ms / 2 + 1);
}

void breaker_forget(struct breaker *b)
{
    b->probing = false;
}

const char *const breaker_states[BREAKER_STATES] = { "closed", "open", "half-open" };

const char *breaker_state(const struct breaker *b, uint64_t now)
{
    if (!is_open(b))
        return breaker_states[0];
    return breaker_states[b->probing || now >= b->open_until ? 2 : 1];
}

uint64_t backoff_ms(unsigned n, uint32_t jitter)
{
    uint64_t ms = BACKOFF_MIN_MS;

    while (n > 1 && ms < BACKOFF_MAX_MS) {
        ms *= 2;
        n--;
    }
    if (ms > BACKOFF_MAX_MS)
        ms = BACKOFF_MAX_MS;
    return ms / 2 + jitter % (ms / 2 + 1);
}

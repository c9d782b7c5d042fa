/* SPDX-License-Identifier: Apache-2.0 */
/*
 * phases.h: where the time of one call went. An op adds what it measured; the call's line in
 * the log ends with it (attach_us=812 unwrap_us=2231 …). One call's: not thread-safe. Times are in
 * microseconds of clock_us(); at most PHASES_MAX names, later ones are left out.
 */
#ifndef COFFER_COMMON_PHASES_H
#define COFFER_COMMON_PHASES_H

#include "common/base.h"

#define PHASES_MAX 12u

struct phases {
    size_t n;
    struct {
        const char *name; /* a constant, the log's key */
        uint64_t us;
    } items[PHASES_MAX];
};

/* The time since `started`, added to what the same name has. p NULL: nobody wants to know. */
void phases_add(struct phases *p, const char *name, uint64_t started_us);

#endif

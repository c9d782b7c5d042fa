/* SPDX-License-Identifier: Apache-2.0 */
/* counters.h: what the scheduler counts for /metrics. Thread-safe: atomics alone. */
#ifndef COFFER_SCHEDULER_COUNTERS_H
#define COFFER_SCHEDULER_COUNTERS_H

#include "common/base.h"
#include "common/metrics.h"
#include "scheduler/operation.h"

#include <stdatomic.h>

#define COUNTED_STATUS 6u /* classes: 0 (never answered), 1xx to 5xx */

struct counters {
    atomic_ulong requests[COUNTED_STATUS];
    atomic_ulong operations[OPERATION_KINDS][2]; /* went well, failed */
    atomic_ulong proofs_refused;
    atomic_ulong challenges;
    atomic_ulong rounds[2];           /* good, failed */
    atomic_ulong connections;         /* open now */
    atomic_ulong cut;                 /* too slow, or too many */
    atomic_ulong certificate_expires; /* seconds since 1970; 0: there is none */
    struct histogram find_us;         /* to answer one, on the server's thread */
};

#endif

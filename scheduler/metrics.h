/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.h: the scheduler's part of /healthz and /metrics (docs/metrics.md lists them). For
 * monitor.h; ctx is the struct scheduler. Thread-safe. */
#ifndef COFFER_SCHEDULER_METRICS_H
#define COFFER_SCHEDULER_METRICS_H

#include "common/base.h"
#include "common/metrics.h"

/* false, and why: the rounds hang. That the driver can't be reached doesn't make it ill. */
bool scheduler_healthy(void *ctx, struct strbuf *why);
void scheduler_write_metrics(void *ctx, struct metrics *m);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* keyd/metrics.h: coffer-keyd's /metrics: requests, connections, and of each Vault login its
 * requests, token, breaker and self-test. Names of key services are the configuration's. Memory
 * alone is read: it runs under seccomp. */
#ifndef COFFER_KEYD_METRICS_H
#define COFFER_KEYD_METRICS_H

#include "common/metrics.h"
#include "keyd/ops.h"

void keyd_metrics_write(const struct keyd *k, struct metrics *m);

#endif

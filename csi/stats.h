/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats.h: what the process's CSI servers have answered: calls by method and code, how long they
 * took, and where the time went (common/phases.h). Methods and codes are those of our tables, so
 * their number is bounded. Thread-safe; never reset.
 */
#ifndef COFFER_CSI_STATS_H
#define COFFER_CSI_STATS_H

#include "common/base.h"
#include "common/error.h"
#include "common/metrics.h"
#include "common/phases.h"

struct method;

/* server's half: method NULL is one that no server of ours has */
void csi_stats_begin(void);
void csi_stats_end(const struct method *method, enum error_code code, uint64_t us,
                   const struct phases *phases);

/* For /metrics. */
void csi_stats_write(struct metrics *m);
void csi_stats_write_phases(struct metrics *m);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sampler.h: a pool's figures for /metrics. A round looks at every pool and may take long, or hang
 * with its file system; writing shows what the last round found and when, and never waits.
 * Thread-safe: one thread makes rounds, any thread writes.
 */
#ifndef COFFER_BACKENDS_SAMPLER_H
#define COFFER_BACKENDS_SAMPLER_H

#include "backends/backend.h"
#include "common/base.h"
#include "common/error.h"
#include "common/metrics.h"

#define SAMPLER_PERIOD_MS 30000u

struct pool_sampler; /* opaque */

/* count: also what a pool has promised and how many volumes it has (a walk through all of them);
 * else only what is known without. The set is borrowed. */
int pool_sampler_new(struct pool_set *set, bool count, struct pool_sampler **ret,
                     struct error *err) MUST_CHECK;
void pool_sampler_free(struct pool_sampler *s);
void pool_sampler_round(void *sampler);
void pool_sampler_write(struct pool_sampler *s, struct metrics *m);

#endif

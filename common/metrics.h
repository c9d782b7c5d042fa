/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.h: what a daemon counts, in Prometheus's text format 0.0.4 (prometheus.io, "Exposition
 * formats"). A family (HELP, TYPE) comes first, its samples follow; a family is printed also when
 * it has no sample, so that what a program can say is all there. Label values have few different
 * ones: no ids, no paths of volumes, nothing that a caller chooses. Not thread-safe; a histogram
 * is.
 */
#ifndef COFFER_COMMON_METRICS_H
#define COFFER_COMMON_METRICS_H

#include "common/base.h"
#include "common/strbuf.h"

#include <stdatomic.h>

#define METRICS_MAX MIB(1)

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_label {
    const char *name, *value;
};
/* LABELS({ "method", m }, { "code", c }); NULL: none */
#define LABELS(...)                 \
    ((const struct metric_label[]){ \
        __VA_ARGS__,                \
        { NULL, NULL },             \
    })

struct metrics {
    struct strbuf *text;
    const char *family; /* of the samples that come */
};

void metrics_family(struct metrics *m, enum metric_type type, const char *name, const char *help);
void metrics_sample(struct metrics *m, const struct metric_label *labels, uint64_t value);
void metrics_seconds(struct metrics *m, const struct metric_label *labels, uint64_t us);
/* A family of one sample without labels. */
void metrics_one(struct metrics *m, enum metric_type type, const char *name, const char *help,
                 uint64_t value);

/* ---- latencies ---- */

#define HISTOGRAM_BUCKETS 14

struct histogram { /* zeros: empty */
    atomic_ulong counts[HISTOGRAM_BUCKETS + 1];
    atomic_ulong sum_us;
};

void histogram_add(struct histogram *h, uint64_t us);
bool histogram_is_empty(struct histogram *h);
void metrics_histogram(struct metrics *m, const struct metric_label *labels, struct histogram *h);

#endif

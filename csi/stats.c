/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "csi/stats.h"

#include "csi/dispatch.h"

#include <stdatomic.h>

#define PHASE_NAMES 24u /* more than any daemon has; a later one is left out */

struct phase_stats {
    _Atomic(const char *) name; /* the constant of phases_add; NULL: free */
    struct histogram took;
};

static struct {
    atomic_long in_flight;
    atomic_ulong codes[METHODS_MAX + 1][ERR_CODE_COUNT]; /* the last row: unknown methods */
    struct histogram took[METHODS_MAX + 1];
    struct phase_stats phases[PHASE_NAMES];
} stats;

void csi_stats_begin(void)
{
    (void)atomic_fetch_add(&stats.in_flight, 1);
}

static bool is_named(struct phase_stats *p, const char *name)
{
    const char *have = NULL;

    if (atomic_compare_exchange_strong(&p->name, &have, name))
        return true; /* it was free */
    return strcmp(have, name) == 0;
}

static void add_phase(const char *name, uint64_t us)
{
    for (size_t i = 0; i < PHASE_NAMES; i++) {
        if (is_named(&stats.phases[i], name)) {
            histogram_add(&stats.phases[i].took, us);
            return;
        }
    }
}

void csi_stats_end(const struct method *method, enum error_code code, uint64_t us,
                   const struct phases *phases)
{
    size_t row = method != NULL ? (size_t)(method - csi_methods) : METHODS_MAX;

    (void)atomic_fetch_sub(&stats.in_flight, 1);
    (void)atomic_fetch_add(&stats.codes[row][code], 1);
    histogram_add(&stats.took[row], us);
    for (size_t i = 0; i < phases->n; i++)
        add_phase(phases->items[i].name, phases->items[i].us);
}

/* "csi.v1.Node/NodeStageVolume"; NULL: no such row. */
static const char *method_name(size_t row)
{
    if (row == METHODS_MAX)
        return "unknown";
    return row < csi_methods_len ? csi_methods[row].path + 1 : NULL;
}

static void write_codes(struct metrics *m, size_t row)
{
    for (size_t code = 0; code < ERR_CODE_COUNT; code++) {
        unsigned long n = atomic_load(&stats.codes[row][code]);

        if (n > 0)
            metrics_sample(m,
                           LABELS({ "method", method_name(row) },
                                  { "code", error_code_name((enum error_code)code) }),
                           n);
    }
}

void csi_stats_write(struct metrics *m)
{
    long in_flight = atomic_load(&stats.in_flight);

    metrics_one(m, METRIC_GAUGE, "coffer_csi_calls_in_flight",
                "gRPC calls that have come and were not answered yet.",
                in_flight > 0 ? (uint64_t)in_flight : 0);
    metrics_family(m, METRIC_COUNTER, "coffer_csi_calls_total",
                   "gRPC calls answered, by method and code.");
    for (size_t row = 0; row <= METHODS_MAX; row++) {
        if (method_name(row) != NULL)
            write_codes(m, row);
    }
    metrics_family(m, METRIC_HISTOGRAM, "coffer_csi_call_duration_seconds",
                   "From a gRPC call's arrival to its answer, the wait for a worker included.");
    for (size_t row = 0; row <= METHODS_MAX; row++) {
        if (method_name(row) != NULL && !histogram_is_empty(&stats.took[row]))
            metrics_histogram(m, LABELS({ "method", method_name(row) }), &stats.took[row]);
    }
}

void csi_stats_write_phases(struct metrics *m)
{
    metrics_family(m, METRIC_HISTOGRAM, "coffer_csi_phase_duration_seconds",
                   "Where the time of a call went; unwrap, open and format are part of unlock.");
    for (size_t i = 0; i < PHASE_NAMES; i++) {
        const char *name = atomic_load(&stats.phases[i].name);
        char phase[32];

        if (name == NULL)
            return;
        size_t len = strlen(name);
        if (len > 3 && strcmp(name + len - 3, "_us") == 0)
            len -= 3;
        (void)snprintf(phase, sizeof(phase), "%.*s", (int)len, name);
        metrics_histogram(m, LABELS({ "phase", phase }), &stats.phases[i].took);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/metrics.h"

static const char *const type_names[] = {
    [METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram"
};

void metrics_family(struct metrics *m, enum metric_type type, const char *name, const char *help)
{
    m->family = name;
    strbuf_addf(m->text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type_names[type]);
}

static void add_value(struct strbuf *sb, const char *value)
{
    for (; *value != '\0'; value++) {
        if (*value == '\\' || *value == '"')
            strbuf_addf(sb, "\\%c", *value);
        else if (*value == '\n')
            strbuf_adds(sb, "\\n");
        else
            strbuf_add(sb, value, 1);
    }
}

static void add_label(struct strbuf *sb, bool first, const struct metric_label *label)
{
    strbuf_addf(sb, "%s%s=\"", first ? "{" : ",", label->name);
    add_value(sb, label->value);
    strbuf_adds(sb, "\"");
}

/* le: a histogram's bucket, or NULL. */
static void add_name(struct metrics *m, const char *suffix, const struct metric_label *labels,
                     const char *le)
{
    bool first = true;

    strbuf_addf(m->text, "%s%s", m->family, suffix);
    for (; labels != NULL && labels->name != NULL; labels++, first = false)
        add_label(m->text, first, labels);
    if (le != NULL)
        add_label(m->text, first, &(const struct metric_label){ "le", le });
    strbuf_adds(m->text, first && le == NULL ? " " : "} ");
}

void metrics_sample(struct metrics *m, const struct metric_label *labels, uint64_t value)
{
    add_name(m, "", labels, NULL);
    strbuf_addf(m->text, "%llu\n", (unsigned long long)value);
}

static void add_seconds(struct strbuf *sb, uint64_t us)
{
    strbuf_addf(sb, "%llu.%06llu\n", (unsigned long long)us / 1000000,
                (unsigned long long)us % 1000000);
}

void metrics_seconds(struct metrics *m, const struct metric_label *labels, uint64_t us)
{
    add_name(m, "", labels, NULL);
    add_seconds(m->text, us);
}

void metrics_one(struct metrics *m, enum metric_type type, const char *name, const char *help,
                 uint64_t value)
{
    metrics_family(m, type, name, help);
    metrics_sample(m, NULL, value);
}

/* ---- latencies ---- */

/* From a request that asks nobody to a file system's check: kubelet gives up after two minutes. */
static const struct {
    uint64_t us;
    const char *le;
} bounds[HISTOGRAM_BUCKETS] = {
    { 1000, "0.001" },  { 2500, "0.0025" },   { 5000, "0.005" },  { 10000, "0.01" },
    { 25000, "0.025" }, { 50000, "0.05" },    { 100000, "0.1" },  { 250000, "0.25" },
    { 500000, "0.5" },  { 1000000, "1" },     { 2500000, "2.5" }, { 10000000, "10" },
    { 30000000, "30" }, { 120000000, "120" },
};

void histogram_add(struct histogram *h, uint64_t us)
{
    size_t i = 0;

    while (i < HISTOGRAM_BUCKETS && us > bounds[i].us)
        i++;
    (void)atomic_fetch_add_explicit(&h->counts[i], 1, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&h->sum_us, us, memory_order_relaxed);
}

bool histogram_is_empty(struct histogram *h)
{
    for (size_t i = 0; i <= HISTOGRAM_BUCKETS; i++) {
        if (atomic_load_explicit(&h->counts[i], memory_order_relaxed) > 0)
            return false;
    }
    return true;
}

void metrics_histogram(struct metrics *m, const struct metric_label *labels, struct histogram *h)
{
    uint64_t total = 0;

    for (size_t i = 0; i <= HISTOGRAM_BUCKETS; i++) {
        total += atomic_load_explicit(&h->counts[i], memory_order_relaxed);
        add_name(m, "_bucket", labels, i < HISTOGRAM_BUCKETS ? bounds[i].le : "+Inf");
        strbuf_addf(m->text, "%llu\n", (unsigned long long)total);
    }
    add_name(m, "_sum", labels, NULL);
    add_seconds(m->text, atomic_load_explicit(&h->sum_us, memory_order_relaxed));
    add_name(m, "_count", labels, NULL);
    strbuf_addf(m->text, "%llu\n", (unsigned long long)total);
}

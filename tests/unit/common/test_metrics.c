/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "common/metrics.h"

static void samples_follow_help_and_type(void **state)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(METRICS_MAX);
    struct metrics m = { .text = &text };

    metrics_one(&m, METRIC_COUNTER, "x_total", "Things.", 7);
    metrics_family(&m, METRIC_GAUGE, "y", "Other things.");
    metrics_sample(&m, LABELS({ "a", "1" }), 18446744073709551615ull);
    metrics_seconds(&m, LABELS({ "a", "1" }, { "b", "2" }), 1500001);
    metrics_family(&m, METRIC_GAUGE, "z", "Without a sample.");
    assert_string_equal(strbuf_text(&text), "# HELP x_total Things.\n"
                                            "# TYPE x_total counter\n"
                                            "x_total 7\n"
                                            "# HELP y Other things.\n"
                                            "# TYPE y gauge\n"
                                            "y{a=\"1\"} 18446744073709551615\n"
                                            "y{a=\"1\",b=\"2\"} 1.500001\n"
                                            "# HELP z Without a sample.\n"
                                            "# TYPE z gauge\n");
}

static void label_values_are_escaped(void **state)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(METRICS_MAX);
    struct metrics m = { .text = &text, .family = "x" };

    metrics_sample(&m, LABELS({ "a", "q\" b\\ n\n" }), 1);
    assert_string_equal(strbuf_text(&text), "x{a=\"q\\\" b\\\\ n\\n\"} 1\n");
}

static void a_histogram_is_cumulative(void **state)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(METRICS_MAX);
    struct metrics m = { .text = &text };
    static struct histogram h;

    assert_true(histogram_is_empty(&h));
    histogram_add(&h, 0);
    histogram_add(&h, 1000);      /* a bound belongs to its bucket */
    histogram_add(&h, 1001);      /* and one more doesn't */
    histogram_add(&h, 120000001); /* beyond all of them */
    assert_false(histogram_is_empty(&h));
    metrics_family(&m, METRIC_HISTOGRAM, "t_seconds", "Time.");
    metrics_histogram(&m, LABELS({ "k", "v" }), &h);
    const char *s = strbuf_text(&text);
    assert_non_null(strstr(s, "t_seconds_bucket{k=\"v\",le=\"0.001\"} 2\n"));
    assert_non_null(strstr(s, "t_seconds_bucket{k=\"v\",le=\"0.0025\"} 3\n"));
    assert_non_null(strstr(s, "t_seconds_bucket{k=\"v\",le=\"120\"} 3\n"));
    assert_non_null(strstr(s, "t_seconds_bucket{k=\"v\",le=\"+Inf\"} 4\n"));
    assert_non_null(strstr(s, "t_seconds_sum{k=\"v\"} 120.002002\n"));
    assert_non_null(strstr(s, "t_seconds_count{k=\"v\"} 4\n"));
}

static void a_histogram_without_labels_has_its_bounds(void **state)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(METRICS_MAX);
    struct metrics m = { .text = &text, .family = "t" };
    static struct histogram h;

    metrics_histogram(&m, NULL, &h);
    assert_non_null(strstr(strbuf_text(&text), "t_bucket{le=\"0.001\"} 0\n"));
    assert_non_null(strstr(strbuf_text(&text), "t_sum 0.000000\nt_count 0\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_follow_help_and_type),
        cmocka_unit_test(label_values_are_escaped),
        cmocka_unit_test(a_histogram_is_cumulative),
        cmocka_unit_test(a_histogram_without_labels_has_its_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

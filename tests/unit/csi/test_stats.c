/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "common/deadline.h"
#include "csi/dispatch.h"
#include "csi/stats.h"

static const struct method *method_of(const char *path)
{
    for (size_t i = 0; i < csi_methods_len; i++) {
        if (strcmp(csi_methods[i].path, path) == 0)
            return &csi_methods[i];
    }
    fail_msg("no method %s", path);
    return NULL;
}

static void assert_written(void (*write)(struct metrics *m), const char *line, bool there)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(METRICS_MAX);
    struct metrics m = { .text = &text };

    write(&m);
    if ((strstr(strbuf_text(&text), line) != NULL) != there)
        fail_msg("%s%s", there ? "no " : "", line);
}

static void end(const char *path, enum error_code code, uint64_t us, const struct phases *phases)
{
    static const struct phases none;

    csi_stats_begin();
    csi_stats_end(path != NULL ? method_of(path) : NULL, code, us, phases != NULL ? phases : &none);
}

static void calls_are_counted_by_method_and_code(void **state)
{
    static const char stage[] = "/csi.v1.Node/NodeStageVolume";

    assert_written(csi_stats_write, "NodeStageVolume", false);
    end(stage, ERR_OK, 2000, NULL);
    end(stage, ERR_ABORTED, 3000, NULL);
    end(stage, ERR_OK, 4000, NULL);
    end(NULL, ERR_UNIMPLEMENTED, 10, NULL);
    assert_written(csi_stats_write,
                   "coffer_csi_calls_total{method=\"csi.v1.Node/NodeStageVolume\",code=\"OK\"} 2\n",
                   true);
    assert_written(csi_stats_write, "NodeStageVolume\",code=\"ABORTED\"} 1\n", true);
    assert_written(csi_stats_write, "{method=\"unknown\",code=\"UNIMPLEMENTED\"} 1\n", true);
    assert_written(csi_stats_write, "_sum{method=\"csi.v1.Node/NodeStageVolume\"} 0.009000\n",
                   true);
    assert_written(csi_stats_write, "_count{method=\"csi.v1.Node/NodeStageVolume\"} 3\n", true);
}

static void what_is_not_answered_is_in_flight(void **state)
{
    static const struct phases none;

    assert_written(csi_stats_write, "\ncoffer_csi_calls_in_flight 0\n", true);
    csi_stats_begin();
    assert_written(csi_stats_write, "\ncoffer_csi_calls_in_flight 1\n", true);
    csi_stats_end(NULL, ERR_OK, 1, &none);
    assert_written(csi_stats_write, "\ncoffer_csi_calls_in_flight 0\n", true);
}

static void phases_lose_their_unit(void **state)
{
    struct phases p = { .n = 0 };

    phases_add(&p, "attach_us", clock_us());
    phases_add(&p, "unwrap_us", clock_us());
    end("/csi.v1.Node/NodeStageVolume", ERR_OK, 10, &p);
    end("/csi.v1.Node/NodeStageVolume", ERR_OK, 10, &p);
    assert_written(csi_stats_write_phases,
                   "coffer_csi_phase_duration_seconds_count{phase=\"attach\"} 2\n", true);
    assert_written(csi_stats_write_phases, "_count{phase=\"unwrap\"} 2\n", true);
    assert_written(csi_stats_write_phases, "_us", false);
}

/* More names than there is room for: the first ones stay, nothing is overwritten. */
static void names_have_a_limit(void **state)
{
    static char names[64][16];

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct phases p = { .n = 0 };

        (void)snprintf(names[i], sizeof(names[i]), "extra%zu_us", i);
        phases_add(&p, names[i], clock_us());
        end("/csi.v1.Identity/Probe", ERR_OK, 1, &p);
    }
    assert_written(csi_stats_write_phases, "{phase=\"extra0\"} 1\n", true);
    assert_written(csi_stats_write_phases, "{phase=\"extra63\"", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_are_counted_by_method_and_code),
        cmocka_unit_test(what_is_not_answered_is_in_flight),
        cmocka_unit_test(phases_lose_their_unit),
        cmocka_unit_test(names_have_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

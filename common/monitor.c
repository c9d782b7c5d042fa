/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/monitor.h"

#include "common/httpd.h"

#include <time.h>

static int write_health(void *ctx, struct strbuf *body)
{
    const struct monitor *m = ctx;

    if (m->healthy == NULL || m->healthy(m->ctx, body)) {
        strbuf_clear(body);
        strbuf_adds(body, "ok\n");
        return 200;
    }
    strbuf_adds(body, "\n");
    return 503;
}

static int write_metrics(void *ctx, struct strbuf *body)
{
    const struct monitor *d = ctx;
    struct metrics m = { .text = body };

    metrics_family(&m, METRIC_GAUGE, "coffer_build_info", "Always 1: which program this is.");
    metrics_sample(&m, LABELS({ "program", d->program }, { "version", COFFER_VERSION }), 1);
    metrics_one(&m, METRIC_GAUGE, "coffer_start_time_seconds",
                "When the process started, in seconds since 1970.", (uint64_t)d->started);
    d->metrics(d->ctx, &m);
    return 200;
}

static const struct httpd_page pages[] = {
    { "/healthz", "text/plain; charset=utf-8", write_health },
    { "/metrics", "text/plain; version=0.0.4; charset=utf-8", write_metrics },
};

int monitor_check(const char *address, struct error *err)
{
    return address[0] == '\0' ? 0 : httpd_check(address, err);
}

int monitor_listen(struct monitor *m, const char *address, struct error *err)
{
    m->listener = -1;
    m->started = (int64_t)time(NULL);
    return address[0] == '\0' ? 0 : httpd_listen(address, &m->listener, err);
}

int monitor_start(struct monitor *m, struct event_loop *loop, struct error *err)
{
    static struct httpd *kept; /* for the rest of the process's life */
    const struct httpd_options o = { .loop = loop,
                                     .listener = m->listener,
                                     .pages = pages,
                                     .n_pages = ARRAY_SIZE(pages),
                                     .ctx = m };

    if (m->listener < 0)
        return 0;
    return loop != NULL ? httpd_new(&o, &kept, err) : httpd_start_thread(&o, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * monitor.h: the two pages of --http, the same for every daemon: /healthz (200 "ok", or 503 and one
 * sentence) and /metrics. Both speak of the process, never of Vault or a pool: an outage of those
 * must not have pods restarted. What is behind them is asked on the responder's thread and must not
 * block: what could (a file system that hangs) is looked at by a thread of its own, and its last
 * result shown.
 */
#ifndef COFFER_COMMON_MONITOR_H
#define COFFER_COMMON_MONITOR_H

#include "common/base.h"
#include "common/error.h"
#include "common/event.h"
#include "common/metrics.h"

#define MONITOR_FLAG(target)                                                            \
    {                                                                                   \
        "http", NULL, FLAG_STRING, (target), "",                                        \
            "ADDRESS:PORT of /healthz and /metrics, without a login; empty: none", NULL \
    }

struct monitor { /* the daemon's; lives as long as the process */
    const char *program;
    bool (*healthy)(void *ctx, struct strbuf *why); /* NULL: whoever answers is */
    void (*metrics)(void *ctx, struct metrics *m);
    void *ctx;
    int listener; /* -1: there is no --http */
    int64_t started;
};

/* The flag's value: ERR_INVALID. */
int monitor_check(const char *address, struct error *err) MUST_CHECK;
/* Opens the listener, unless `address` is empty: before the process gives the network up. */
int monitor_listen(struct monitor *m, const char *address, struct error *err) MUST_CHECK;
/* Answers on a thread of its own (loop NULL) or on that loop. Nothing happens without --http. */
int monitor_start(struct monitor *m, struct event_loop *loop, struct error *err) MUST_CHECK;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * httpd.h: a few pages for machines that watch this process (/healthz, /metrics), over HTTP/1.x and
 * on an event loop: GET alone, a request of at most 1 KiB, one answer, then the connection is
 * closed. At most HTTPD_CONNECTIONS at once and 5 s for each; when there are more, the oldest one
 * goes, so that nobody who is slow keeps a probe out. After httpd_new it makes no system call but
 * accept4, epoll_ctl, read, sendto and close: it lives in coffer-keyd's seccomp filter. No part of
 * a request is logged, kept or given to a page. One thread (the loop's).
 */
#ifndef COFFER_COMMON_HTTPD_H
#define COFFER_COMMON_HTTPD_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "common/event.h"
#include "common/strbuf.h"

#define HTTPD_REQUEST_MAX 1024u
#define HTTPD_CONNECTIONS 16u
#define HTTPD_PAGE_MAX    MIB(1)

struct httpd; /* opaque */

struct httpd_page {
    const char *path; /* "/metrics" */
    const char *type; /* of what it writes */
    /* Writes the page, must not block; the answer's status, 200 or 503. */
    int (*write)(void *ctx, struct strbuf *body);
};

struct httpd_options { /* all borrowed */
    struct event_loop *loop;
    int listener;
    const struct httpd_page *pages;
    size_t n_pages;
    void *ctx;
};

/* Opens the listener: "127.0.0.1:9810", "[::1]:9810", ":9810" (every address). Names aren't looked
 * up. ERR_INVALID for anything else. */
int httpd_check(const char *address, struct error *err) MUST_CHECK; /* only that it is one */
int httpd_listen(const char *address, int *ret_fd, struct error *err) MUST_CHECK;
int httpd_new(const struct httpd_options *o, struct httpd **ret, struct error *err) MUST_CHECK;
void httpd_free(struct httpd *h); /* leaves the listener open */

/* The same on a thread and a loop of its own, for the rest of the process's life. `loop` is not
 * used. Signals must be blocked before. */
int httpd_start_thread(const struct httpd_options *o, struct error *err) MUST_CHECK;

/* 0: the request isn't whole yet; else the status that answers it, with 200 the path (which lies in
 * `data`, without a query). Pure. */
int httpd_parse(const char *data, size_t len, const char **ret_path, size_t *ret_path_len);

DEFINE_AUTO(httpd, httpd_free)
#define AUTO_HTTPD __attribute__((cleanup(cleanup_httpd)))

#endif

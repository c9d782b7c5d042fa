/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http/client.h: HTTPS requests on an event loop. This folder alone knows libcurl. One thread (the
 * loop's); libcurl may start a thread of its own to resolve a name.
 *
 * What can't be turned off: https only (or, for a client with a unix_path, http over that socket of
 * this machine and nothing else), TLS 1.2 or newer, the server's chain checked against the
 * one CA bundle that is given (never the system's), its name against the URL's host. No redirect
 * is followed; no proxy, no exception from one and no file for TLS keys is taken from the
 * environment; no cookie, no .netrc; HTTP/1.1 with kept connections, at most HTTP_CONNECTIONS to
 * all servers of a client: further requests wait inside their deadline. A reply's body has at most
 * HTTP_BODY_MAX bytes. Request and reply live in memory that is wiped (common/wipe.h).
 */
#ifndef COFFER_HTTP_CLIENT_H
#define COFFER_HTTP_CLIENT_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "common/event.h"

#define HTTP_CONNECTIONS 8
#define HTTP_BODY_MAX    MIB(1)
#define HTTP_HEADERS_MAX 8

struct http_client;   /* opaque */
struct http_transfer; /* opaque; one request under way */

struct http_options {                 /* copied */
    const char *ca_path;              /* PEM file; read for each new connection, so it may change */
    const char *cert_path, *key_path; /* PEM files of a client certificate; NULL: none */
    const char *proxy;                /* URL; NULL: none, whatever the environment says */
    const char
        *unix_path; /* a socket; then no TLS and no ca_path: URLs are http://localhost/path */
    uint64_t connect_timeout_ms; /* for TCP and TLS together; half of what is left, at most */
};

struct http_header {
    const char *name, *value;
};

struct http_request {                             /* borrowed until http_start returns */
    const char *method;                           /* "GET", "POST", "DELETE" */
    const char *url;                              /* https://host:port/path */
    struct http_header headers[HTTP_HEADERS_MAX]; /* until the first without a name */
    const char *body;                             /* NULL: none */
    size_t body_len;
    uint64_t deadline; /* clock_ms() value */
};

enum http_failure {
    HTTP_WHOLE,   /* a whole reply came */
    HTTP_CONNECT, /* no connection: name, network, refused */
    HTTP_TLS,     /* who answers can't be trusted, or speaks no TLS we accept */
    HTTP_TIMEOUT, /* the deadline came first */
    HTTP_CUT,     /* it ended in mid-reply, or was no HTTP */
    HTTP_TOO_BIG,
};

struct http_reply { /* borrowed: until the callback returns */
    enum http_failure failure;
    const char *
        problem; /* what failed, in libcurl's words; "" for HTTP_WHOLE. Holds no header, no body. */
    long status; /* 0 unless HTTP_WHOLE */
    const char *body; /* NUL-terminated, "" when empty */
    size_t body_len;
    uint64_t retry_after_ms; /* Retry-After in seconds; 0: not sent */
    const char *location;    /* "" when not sent */
};

typedef void (*http_done)(void *ctx, const struct http_reply *reply);

/* Once in a process, before any thread and before libcrypto is used: both then wipe their memory.
 */
int http_global_init(struct error *err) MUST_CHECK;

int http_client_new(struct event_loop *loop, const struct http_options *o, struct http_client **ret,
                    struct error *err) MUST_CHECK;
/* Cancels what is under way; closes its connections. */
void http_client_free(struct http_client *c);

/* `done` is called once, never before http_start has returned, unless it is cancelled. */
int http_start(struct http_client *c, const struct http_request *r, http_done done, void *ctx,
               struct http_transfer **ret, struct error *err) MUST_CHECK;
/* `done` won't be called; the transfer is gone. NULL is fine. */
void http_cancel(struct http_transfer *t);

DEFINE_AUTO(http_client, http_client_free)
#define AUTO_HTTP_CLIENT __attribute__((cleanup(cleanup_http_client)))

#endif

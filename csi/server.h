/* SPDX-License-Identifier: Apache-2.0 */
/*
 * csi/server.h: one gRPC server on one unix socket. A lock file beside the socket (<path>.lock)
 * keeps a second instance from stealing it; the socket is 0600, or 0660 for a group. One poller
 * thread answers what doesn't block, at most `workers` threads run the rest. csi_server_init blocks
 * SIGTERM, SIGINT and SIGUSR1 in all threads and ignores SIGPIPE: call it before anything makes a
 * thread.
 */
#ifndef COFFER_CSI_SERVER_H
#define COFFER_CSI_SERVER_H

#include "common/base.h"
#include "common/error.h"
#include "common/strbuf.h"
#include "csi/api.h"

#include <sys/types.h>

struct csi_server;

struct csi_server_options {
    const char *endpoint; /* "unix:///path", "unix:/path" or an absolute path */
    unsigned workers;     /* 0 = 32 */
    bool has_group;       /* the socket is 0660 with this group, else 0600 */
    gid_t group;
    uint64_t drain_ms; /* how long SIGTERM waits for running calls; 0 = 20000 */
    /* The socket appears at its path when it already serves, and goes before anything else does;
     * whatever else is at the path by then stays. For a directory that somebody watches. */
    bool publish_last;
};

/* What csi_server_run calls, on its own thread; each may be NULL. */
struct csi_server_hooks {
    void (*on_usr1)(void *ctx);
    void (*on_tick)(void *ctx); /* once a second */
    void (*on_stop)(void *ctx); /* the end begins: no server was told yet */
    void *ctx;
};

void csi_server_init(void); /* grpc_init, signals, descriptors; once */
int csi_server_start(const struct csi_server_options *o, const struct csi_service *service,
                     struct csi_server **ret, struct error *err) MUST_CHECK;
/* Blocks until SIGTERM/SIGINT, drains all given servers side by side, frees them. -1 when a call
 * did not end (its server is left as it is: exit), and when gRPC itself stopped listening. */
int csi_server_run(struct csi_server **servers, size_t n, const struct csi_server_hooks *hooks);
/* From any thread: csi_server_run ends as if SIGTERM had come. */
void csi_server_end(void);
/* For /healthz: false, and why, when a poller of this process, which must not block, has been at
 * work on one event for half a minute. Thread-safe, at any time. */
bool csi_servers_healthy(struct strbuf *why);
/* With publish_last: the socket at its path is still this server's. */
bool csi_server_is_published(const struct csi_server *server);
/* The same for one server, at once. -1: calls didn't end even when cancelled; the server is then
 * left as it is. */
int csi_server_stop(struct csi_server *server);
/* Fast way out after run: flushes and _exit()s (grpc_shutdown can hang 10 s); in sanitizer builds
 * shuts down fully. */
void csi_server_exit(int code) __attribute__((noreturn));

#endif

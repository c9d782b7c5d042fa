/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd/server.h: connections from allowed peers on an event loop of one thread, one frame at a time
 * from each; a malformed one ends its connection and nothing else. While a request waits for its
 * key service its connection isn't read, and others are served. A client that doesn't read its
 * replies or says nothing for idle_ms is dropped. When SERVER_CONNECTIONS are open, further ones
 * wait in the socket's queue.
 */
#ifndef COFFER_KEYD_SERVER_H
#define COFFER_KEYD_SERVER_H

#include "common/base.h"
#include "common/error.h"
#include "common/event.h"
#include "common/listen.h"
#include "keyd/ops.h"
#include "keyd/rights.h"

#define SERVER_CONNECTIONS 256u

struct server; /* opaque */

struct server_options { /* all borrowed */
    struct event_loop *loop;
    const struct listener *listener;
    const struct rights *rights;
    struct keyd *keyd;
    uint64_t idle_ms;
};

/* Blocks SIGTERM, SIGINT and SIGUSR1 for a signalfd and ignores SIGPIPE. */
int server_new(const struct server_options *o, struct server **ret, struct error *err) MUST_CHECK;
/* Requests that still wait for their key service are answered to nobody: they end before the loop
 * and the key services are freed. */
void server_free(struct server *s);
/* Runs the loop until SIGTERM or SIGINT: 0. SIGUSR1 writes the counters to the log. */
int server_run(struct server *s, struct error *err) MUST_CHECK;

DEFINE_AUTO(server, server_free)
#define AUTO_SERVER __attribute__((cleanup(cleanup_server)))

#endif

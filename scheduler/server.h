/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.h: HTTP/1.1 in front of api.h, by libmicrohttpd: one thread and one epoll per listener, no
 * thread per connection. A request has `request_ms` from its connection's first byte on, or from
 * the last answer; who is slower is cut off, and when there are too many connections the one that
 * has been at its request longest goes, so that nobody who is slow keeps others out. Bodies are
 * kept in memory that is wiped; libmicrohttpd's own buffer of a connection is a mapping that ends
 * with it.
 */
#ifndef COFFER_SCHEDULER_SERVER_H
#define COFFER_SCHEDULER_SERVER_H

#include "common/base.h"
#include "common/error.h"
#include "scheduler/api.h"
#include "scheduler/certificate.h"

#define SERVER_CONNECTIONS 1000u /* per listener */

struct server_options {                   /* borrowed while the process lives */
    const char *listen;                   /* ADDRESS:PORT; "": none */
    struct certificate_files certificate; /* for it */
    const char *listen_unix;              /* path; "": none */
    const char *socket_group;             /* name or number; "": the process's own */
    const char *admin_socket;             /* path; "": none */
};

/* ERR_INVALID: no listener at all, TCP without TLS, a path that is none. */
int server_check(const struct server_options *o, struct error *err) MUST_CHECK;
/* Opens all listeners. They serve until the process ends. */
int server_start(struct scheduler *s, const struct server_options *o, struct error *err) MUST_CHECK;
/* Takes no new connections any more; the sockets are gone. */
void server_quiesce(void);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange.h: one HTTP request and its answer, between libmicrohttpd and api.h. Its callbacks run
 * on the thread of their listener; an operation's end and exchange_end_overdue come from others,
 * for requests that are suspended.
 */
#ifndef COFFER_SCHEDULER_EXCHANGE_H
#define COFFER_SCHEDULER_EXCHANGE_H

#include "common/base.h"
#include "scheduler/api.h"
#include "scheduler/connections.h"

#include <microhttpd.h>

struct server { /* one listener, for the rest of the process's life */
    struct scheduler *s;
    enum api_door door;
    struct MHD_Daemon *daemon;
    struct connections connections;
};

/* What libmicrohttpd calls; cls is the struct server. */
void *exchange_begin(void *cls, const char *uri, struct MHD_Connection *connection);
enum MHD_Result exchange_handle(void *cls, struct MHD_Connection *connection, const char *url,
                                const char *method, const char *version, const char *data,
                                size_t *size, void **con_cls);
void exchange_end(void *cls, struct MHD_Connection *connection, void **con_cls,
                  enum MHD_RequestTerminationCode code);
void exchange_connection(void *cls, struct MHD_Connection *connection, void **socket_context,
                         enum MHD_ConnectionNotificationCode code);

/* Answers the requests that have waited for an operation too long. */
void exchange_end_overdue(struct scheduler *s);

#endif

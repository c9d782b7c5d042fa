/* SPDX-License-Identifier: Apache-2.0 */
/*
 * call.h: one gRPC call from the core's notice of it to the end of its reply, and the set of all of
 * one server's calls.
 *
 * A slot is handed to the core, which fills it when a call comes; then a fresh slot takes its
 * place, so that any number of calls up to CALLS_MAX is in flight (more wait inside the core). The
 * slot has two references while its call lives: the RECV_CLOSE batch, which is the only sign of a
 * cancel, and the reply. The last one wipes and recycles it. Whoever answers a call (poller or
 * worker) doesn't touch the slot afterwards.
 */
#ifndef COFFER_CSI_CALL_H
#define COFFER_CSI_CALL_H

#include "common/base.h"
#include "csi/dispatch.h"
#include "csi/workers.h"

#include <grpc/grpc.h>
#include <pthread.h>

#define CALLS_MAX   1024u
#define CALL_MEMORY MIB(16) /* request, reply and everything the op allocates */

/* Every completion-queue tag is one of these. */
struct cq_tag {
    void (*fn)(void *owner, bool ok);
    void *owner;
};

struct call_slot;

/* Where calls of one method come from; method NULL: all that the server doesn't offer. */
struct call_source {
    const struct method *method;
    void *handle;     /* the core's */
    unsigned waiting; /* slots in the core's hands */
};

struct calls {
    grpc_server *server;
    grpc_completion_queue *cq;
    const struct csi_service *service;
    struct workers *workers;
    pthread_mutex_t lock; /* everything below, and every request for a call */
    struct call_source sources[METHODS_MAX + 1];
    size_t n_sources, in_flight;
    bool closing, starved;
    struct call_slot *spare;
    size_t n_spare;
};

void calls_init(struct calls *c, grpc_server *server, grpc_completion_queue *cq,
                const struct csi_service *service, struct workers *workers);
int calls_register(struct calls *c, struct error *err) MUST_CHECK; /* before grpc_server_start */
void calls_open(struct calls *c);                                  /* after it */
void calls_close(struct calls *c);                                 /* asks for no more calls */
void calls_release(struct calls *c); /* after the completion queue ended: frees the slots */

#endif

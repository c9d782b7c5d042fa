/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scheduler.h: what the process is made of, and its one lock: the table of clouds, what runs, and
 * what the rounds saw last. No driver is called with the lock held. All functions take the lock
 * themselves unless they say that the caller holds it.
 */
#ifndef COFFER_SCHEDULER_SCHEDULER_H
#define COFFER_SCHEDULER_SCHEDULER_H

#include "common/base.h"
#include "common/error.h"
#include "common/strbuf.h"
#include "scheduler/config.h"
#include "scheduler/counters.h"
#include "scheduler/driver.h"
#include "scheduler/operation.h"
#include "scheduler/place.h"
#include "scheduler/proof.h"
#include "scheduler/queue.h"
#include "scheduler/table.h"
#include "scheduler/unread.h"

#include <pthread.h>

#define ROUND_MS       2000u   /* between two rounds */
#define STALE_MS       60000u  /* facts older than this aren't told any more */
#define SERVER_KEY_MS  60000u  /* how long the server's key is told without asking again */
#define KEY_MS         5000u   /* of a round, for asking for it: coffer-keyd waits for Vault */
#define CALL_MS        60000u  /* one call of a driver */
#define OPERATION_MS   180000u /* all tries of an operation, beside its VM's ready_seconds */
#define UNDO_MS        120000u /* all tries to undo it */
#define GHOST_MS       600000u /* how long a failed create without a volume is told */
#define ADOPT_AFTER_MS 30000u  /* after a failure, before the rounds try to tidy up */
#define OPERATIONS_MAX 4096u

struct scheduler {
    const struct scheduler_config *config;
    struct driver *driver;
    struct proofs *proofs;
    uint64_t request_ms;
    struct counters counters;
    _Atomic uint64_t round_ended; /* clock_ms(); 0: none did yet */

    pthread_mutex_t lock; /* of all that follows */
    struct cloud_table *table;
    uint64_t seq;              /* the last one given (table.h) */
    uint64_t round_at;         /* clock_ms() of the last good round's begin; 0: none yet */
    char round_error[512];     /* of the last round; "": it was good */
    struct unread_list unread; /* by the last good round; the rounds' thread alone writes it */
    struct place_node *nodes;  /* as the last round saw them */
    size_t n_nodes;
    struct cloud_server_key server_key;
    uint64_t server_key_at; /* 0: not known */
    char server_key_error[512];

    pthread_cond_t changed; /* the queue */
    pthread_cond_t ended;   /* an operation */
    struct operation *queue;
    size_t n_operations; /* queued or running */
    struct at_work at_work[WORKERS];
    bool stopping;
};

int scheduler_init(struct scheduler *s, const struct scheduler_config *config,
                   struct error *err) MUST_CHECK;
int scheduler_start(struct scheduler *s, struct error *err) MUST_CHECK; /* rounds and workers */
/* No new operation is taken; waits for those that run. false: some still do. */
bool scheduler_drain(struct scheduler *s, uint64_t deadline);

static inline void scheduler_lock(struct scheduler *s)
{
    (void)pthread_mutex_lock(&s->lock);
}
static inline void scheduler_unlock(struct scheduler *s)
{
    (void)pthread_mutex_unlock(&s->lock);
}

/* ---- worker.c ---- */

/* Takes the operation over, and has it run on its entry, which has none; the caller holds the lock.
 * ERR_EXHAUSTED: there are OPERATIONS_MAX; ERR_UNAVAILABLE: the process ends. The operation then
 * stays the caller's. */
int scheduler_submit(struct scheduler *s, struct entry *e, struct operation *op,
                     struct error *err) MUST_CHECK;
void *scheduler_worker(void *scheduler);

/* ---- rounds.c ---- */

void scheduler_round(void *scheduler);
/* Whether what is in memory may be told; the caller holds the lock. */
int scheduler_is_fresh(struct scheduler *s, struct error *err) MUST_CHECK;
/* The row that hides this cloud, whose facts are so not to be relied on; NULL: none does. e: its
 * entry; NULL: none is known by that id. patience: for so many milliseconds of a node's silence its
 * clouds are taken to be as they were. The caller holds the lock. */
const struct unread *scheduler_unread(struct scheduler *s, const struct entry *e, const char *id,
                                      uint64_t patience);
/* The same as a sentence for users. ERR_UNAVAILABLE. */
int scheduler_is_read(struct scheduler *s, const struct entry *e, const char *id, uint64_t patience,
                      struct error *err) MUST_CHECK;

/* ---- placing.c ---- */

/* The nodes with what running operations will take of them, the caller's to free; the caller holds
 * the lock. */
int scheduler_nodes_copy(struct scheduler *s, const struct place_node *nodes, size_t n,
                         const struct operation *without, struct place_node **ret,
                         struct error *err) MUST_CHECK;
struct place_request scheduler_place_request(const struct scheduler *s, const char *volume_node,
                                             bool spread);
/* Whether there may be one cloud more (the configuration's clouds_max; those being made, and failed
 * ones that are still told, count). ERR_EXHAUSTED; the caller holds the lock. */
int scheduler_may_grow(const struct scheduler *s, struct error *err) MUST_CHECK;
/* Where a new cloud would go, from memory, and its volume's id there; the caller holds the lock. */
int scheduler_place_new(struct scheduler *s, const char *id, bool spread,
                        char node[NODE_NAME_MAX + 1], char volume[CLOUD_HANDLE_MAX + 1],
                        struct error *err) MUST_CHECK;
/* The node on which the cloud's volume has that id. ERR_NOT_FOUND: on none; the caller holds the
 * lock. */
int scheduler_node_of(struct scheduler *s, const char *id, const char *volume,
                      char node[NODE_NAME_MAX + 1], struct error *err) MUST_CHECK;
/* For an operation's step: asks the driver for the nodes as they are now, and sets op->node. */
int scheduler_place_now(struct scheduler *s, struct operation *op, uint64_t deadline,
                        struct error *err) MUST_CHECK;

#endif

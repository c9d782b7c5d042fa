/* SPDX-License-Identifier: Apache-2.0 */
/*
 * operation.h: what changes a cloud: one operation per cloud at a time, a table of steps each
 * (operations.c), run by a few threads (worker.c). A step is idempotent; one that isn't through yet
 * is asked again later without holding a thread. When one fails for good, the steps so far are
 * undone, backwards. Nothing of an operation is on disk: whatever a kill leaves is found by the
 * next rounds (rounds.c), which finish what is half done.
 *
 * An operation owns copies of what the request brought, in memory that is wiped with it.
 */
#ifndef COFFER_SCHEDULER_OPERATION_H
#define COFFER_SCHEDULER_OPERATION_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "scheduler/cloud.h"
#include "scheduler/driver.h"

struct scheduler;
struct operation;

enum operation_kind {
    OPERATION_CREATE,
    OPERATION_MOUNT,
    OPERATION_LOCK,
    OPERATION_DELETE,
    OPERATION_ADD,    /* a device to the list */
    OPERATION_REMOVE, /* one from it, with a new key for the rest */
    OPERATION_WATCH,  /* of the rounds: a VM that starts is waited for */
    OPERATION_CLOSE,  /* of the rounds: an open volume without a VM is closed */
    OPERATION_SETTLE, /* of the rounds: what a kill left of a change of devices */
    OPERATION_KINDS,
};

/* Whoever waits for an operation's end. `done` is called once, with the scheduler's lock held; err
 * NULL: it went well. */
struct waiter {
    void (*done)(struct waiter *w, const struct error *err);
    struct operation *op; /* NULL: it ended */
    struct waiter *next;
};

/* What a request brings; each NULL where it has none. Owned, wiped. */
struct operation_input {
    char *uuid, *commitment; /* of a seed; its device is `device` */
    char *session, *server_key;
    char *new_session, *new_server_key, *new_commitment, *new_recipients;
    char *remove;         /* the fingerprint of the device that goes */
    struct device device; /* of a seed, or to be added: plain values */
};

enum step_result { STEP_FAILED = -1, STEP_DONE = 0, STEP_AGAIN = 1 };

struct operation_step {
    const char *name;
    enum step_result (*run)(struct scheduler *s, struct operation *op, struct error *err);
    int (*undo)(struct scheduler *s, struct operation *op, struct error *err); /* NULL: nothing */
};

struct operation_row {
    const char *name;   /* as find and fault points say it */
    bool pending;       /* find says so while it runs */
    bool repeats_alike; /* whatever a repeated request brings, it is the same operation */
    const struct operation_step *steps;
    size_t n_steps;
};
extern const struct operation_row operation_rows[OPERATION_KINDS];
extern const char *const operation_kind_names[OPERATION_KINDS]; /* each kind its own */

struct operation {
    enum operation_kind kind;
    const struct operation_row *row;
    char device[DEVICE_NAME_LEN + 1]; /* who asked; "": the rounds */
    char fingerprint[DEVICE_NAME_LEN + 1];
    char id[CLOUD_ID_LEN + 1];
    char node[NODE_NAME_MAX + 1]; /* where it goes; "": to be found */
    bool spread;
    struct operation_input input;

    /* Written under the lock, so that others may read them with it. */
    bool placed; /* it will take room on `node` */
    size_t step;
    bool undoing;
    struct waiter *waiters;

    /* The worker's that runs it. */
    struct cloud cloud; /* facts as this operation knows them */
    bool looked;        /* its first facts are there */
    bool found;         /* there is something to have facts of */
    bool undoes_volume; /* made by this operation, perhaps, or never opened before it */
    bool opens;         /* it tried to: what was opened before that is older than it */
    bool finished;      /* before its last step: there is nothing left to do */
    unsigned int tries;
    uint64_t started, deadline, ready_by, due; /* clock_ms() */
    struct error err;                          /* the first one */
    size_t failed_step;                        /* where that was; an undo goes on from there */
    struct operation *next;                    /* queue.h's */
};

/* An operation on that cloud. A step's deadline comes with it. */
int operation_new(enum operation_kind kind, const char *id, struct operation **ret,
                  struct error *err) MUST_CHECK;
void operation_free(struct operation *op); /* wipes */
DEFINE_AUTO(operation, operation_free)
#define AUTO_OPERATION __attribute__((cleanup(cleanup_operation)))

/* What one adds to memory that is wiped; NULL stays NULL. */
int operation_text(char **to, const char *text, struct error *err) MUST_CHECK;

/* Whether both ask for the same: the second then joins the first. */
bool operation_is_same(const struct operation *a, const struct operation *b);

struct cloud_session operation_session(const struct operation *op);

#endif

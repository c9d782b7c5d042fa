/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/op.h: one call's work on one volume: who it is, the locks it holds, the record it read, the
 * device and the mapping it found. Owned by one thread; node_op_end lets go of everything (never of
 * kernel state).
 */
#ifndef COFFER_NODE_OP_H
#define COFFER_NODE_OP_H

#include "keyd/client.h"
#include "node/node.h"

struct node_op {
    struct node *node;
    char id_text[VOLUME_ID_MAX + 1];
    struct volume_id id;
    char dm_name[DM_NAME_LEN + 1];
    struct pool *pool; /* NULL: not looked up */
    struct keylock_hold *hold;
    struct volume volume; /* its flock is held from node_op_lock on */
    struct record record;
    struct block_device device; /* filled by the attach step */
    struct mapping mapping;     /* filled by the unlock step */
    uint64_t deadline;          /* of the call; for waits that cost nothing to give up */
    struct phases *phases;      /* the call's */
    const char *token; /* the pod's, in the call's arena, for a volume that pods open; NULL: none.
                          Never log it. */
    bool has_session;
    struct keyd_session session; /* likewise, of a volume whose key a device lends; without the
                                    commitment, which is the record's */
};

#define NODE_OP_INIT                                                     \
    {                                                                    \
        .hold = NULL, .volume = VOLUME_INIT, .device = BLOCK_DEVICE_INIT \
    }

/* Parses the id and takes the process lock. Foreign or malformed id: ERR_NOT_FOUND. */
int node_op_begin(struct node_op *op, struct node *node, struct csi_call *call,
                  const char *volume_id, struct error *err) MUST_CHECK;
/* Then finds the pool, takes the volume's flock and reads the record. ERR_NOT_FOUND when absent. */
int node_op_lock(struct node_op *op, struct error *err) MUST_CHECK;
/* The flock alone, when there is such a volume; an absent one has no lock. For what must also work
 * without a record. */
int node_op_lock_if_there(struct node_op *op, struct error *err) MUST_CHECK;
/* The record without the flock: the volume exists. */
int node_op_peek(struct node_op *op, struct error *err) MUST_CHECK;
/* ERR_PRECONDITION / ERR_NOT_FOUND unless the record's state lets a node use the volume, and
 * ERR_PRECONDITION when its kms isn't allowed by the pool. */
int node_op_usable(const struct node_op *op, struct error *err) MUST_CHECK;
void node_op_end(struct node_op *op);
#define AUTO_NODE_OP __attribute__((cleanup(node_op_end)))

/* Limits of each kind of child and wait, in ms. */
#define NODE_LIMIT_KEYD  30000u
#define NODE_LIMIT_CRYPT 120000u

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/unlock.h: the key's way past this process: a pipe whose write end goes to coffer-keyd and
 * whose read end goes to coffer-crypt. coffer-node holds the descriptors and never reads from them.
 */
#ifndef COFFER_NODE_UNLOCK_H
#define COFFER_NODE_UNLOCK_H

#include "keyd/client.h"
#include "node/op.h"

/* Asks keyd for the key of op->record; *ret_fd: the read end of a pipe that holds the frame. A
 * volume that pods open is asked for with op->token, and one whose key a device lends with
 * op->session; without one not at all: ERR_PRECONDITION. */
int unlock_key_pipe(struct node_op *op, enum keyd_use use, int *ret_fd,
                    struct error *err) MUST_CHECK;
/* The same of a key of this volume that its record doesn't name (yet): wrapped, or lent by a
 * device (the session has the commitment too). */
int unlock_wrapped_pipe(struct node_op *op, const struct keyd_wrapped *key, enum keyd_use use,
                        int *ret_fd, struct error *err) MUST_CHECK;
int unlock_session_pipe(struct node_op *op, const struct keyd_session *session, enum keyd_use use,
                        int *ret_fd, struct error *err) MUST_CHECK;
/* What keyd is told of this volume (borrowed from op), and how long it is waited for. */
struct keyd_binding unlock_binding(const struct node_op *op);
uint64_t unlock_keyd_deadline(const struct node_op *op);
/* The mapping this volume's record calls for, as crypt/client.h wants it. Borrowed from op. */
struct crypt_volume unlock_target(const struct node_op *op, bool read_only);
/* For one verb, from now. Not the call's: its deadline ends the waiting, not the work. */
uint64_t unlock_crypt_deadline(void);

/* A bind mount of a device node opens nothing: it doesn't keep the mapping, and shows whoever gets
 * the number next. So a number that a target shows is neither given back nor taken: ERR_ABORTED. */
int unlock_refuse_shown(const struct node_op *op, dev_t dev, struct error *err) MUST_CHECK;

/* Steps of stage; see stage.c. */
struct stage;
int unlock_apply(struct stage *s, bool *changed, struct error *err);
int unlock_undo(struct stage *s, struct error *err);

#endif

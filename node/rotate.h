/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/rotate.h: a new storage key for a volume (docs/rekey.md), and who it is wrapped for beside
 * the key service (docs/recipients.md).
 */
#ifndef COFFER_NODE_ROTATE_H
#define COFFER_NODE_ROTATE_H

#include "keyd/client.h"
#include "node/op.h"
#include "node/request.h"
#include "volume/recipients.h"

/* ERR_PRECONDITION unless the volume holds data and its key is one that can be replaced. */
int rotate_check(const struct node_op *op, const struct new_key *key, struct error *err) MUST_CHECK;
/* A device's new key that the record names already, as an interrupted rotation leaves it: it is
 * lent by its own session from now on. */
bool rotate_names(struct node_op *op, const struct new_key *key);
/* Of a locked, checked and attached volume. The new key, made by the key service or brought by a
 * device, is wrapped for each of `stay`; then the header, then the record in one write, then the
 * old keyslots. */
int rotate_run(struct node_op *op, struct recipient_list *stay, const struct new_key *key,
               struct error *err) MUST_CHECK;
/* What an interrupted one left to do: the old keyslots go. */
int rotate_finish(struct node_op *op, struct error *err) MUST_CHECK;

/* The MAC of the record with this list (recipients.h's text), after the list it has was proved with
 * the storage key. Of an attached volume. */
int recipients_sign(struct node_op *op, const char *recipients, char ret_mac[65],
                    struct error *err) MUST_CHECK;
/* That the list is the one that was written with the storage key. */
int recipients_prove(struct node_op *op, struct error *err) MUST_CHECK;
/* Asks keyd to wrap the storage key that `key` is for r->key by r->algorithm, into r->wrapped. */
int recipient_wrap(struct node_op *op, const struct keyd_wrapped *key, struct recipient *r,
                   struct error *err) MUST_CHECK;

#endif

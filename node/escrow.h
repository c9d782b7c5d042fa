/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/escrow.h: the recipients that a volume gets when it is formatted: those that its record has
 * already, and its pool's escrow key. coffer-keyd wraps; no key comes here.
 */
#ifndef COFFER_NODE_ESCROW_H
#define COFFER_NODE_ESCROW_H

#include "node/op.h"

/* As struct record holds them. Fails closed: a pool that has an escrow key has no volume without.
 * ERR_PRECONDITION: the key can't be read, or isn't taken; ERR_PERMISSION: this node's coffer-keyd
 * doesn't answer WRAP_FOR. */
int escrow_recipients(struct node_op *op, char ret[RECIPIENTS_TEXT_MAX + 1],
                      struct error *err) MUST_CHECK;

#endif

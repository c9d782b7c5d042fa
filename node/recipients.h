/* SPDX-License-Identifier: Apache-2.0 */
/* node/recipients.h: a recipient of a record as an answer has it (recipient.c). */
#ifndef COFFER_NODE_RECIPIENTS_H
#define COFFER_NODE_RECIPIENTS_H

#include "common/arena.h"
#include "csi/api.h"
#include "volume/recipients.h"

/* All texts are in the arena. ERR_EXHAUSTED. */
int recipient_describe(struct arena *a, const struct recipient *r, struct csi_recipient *ret,
                       struct error *err) MUST_CHECK;

#endif

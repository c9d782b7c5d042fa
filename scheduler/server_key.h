/* SPDX-License-Identifier: Apache-2.0 */
/* server_key.h: the public key that devices encrypt their sessions for, as coffer-keyd tells it
 * (--keyd-socket, --kms): what drivers that don't have a key of their own answer. Thread-safe. */
#ifndef COFFER_SCHEDULER_SERVER_KEY_H
#define COFFER_SCHEDULER_SERVER_KEY_H

#include "common/base.h"
#include "common/error.h"
#include "scheduler/config.h"
#include "scheduler/driver.h"

/* deadline: clock_ms() value. Errors as keyd_server_key's (keyd/client.h). */
int server_key_ask(const struct scheduler_config *c, uint64_t deadline,
                   struct cloud_server_key *ret, struct error *err) MUST_CHECK;

#endif

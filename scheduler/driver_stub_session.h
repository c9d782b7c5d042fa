/* SPDX-License-Identifier: Apache-2.0 */
/* driver_stub_session.h: what coffer-keyd and Vault do with a session (docs/client-keys.md), for
 * the stub driver: test builds only. Thread-safe. */
#ifndef COFFER_SCHEDULER_DRIVER_STUB_SESSION_H
#define COFFER_SCHEDULER_DRIVER_STUB_SESSION_H

#include "scheduler/driver.h"

/* key_path: the server's private key, PEM. ERR_INVALID: it doesn't open, or isn't of this volume,
 * uuid, device or key; ERR_PRECONDITION: it is over. */
int stub_session_check(const char *key_path, const struct cloud *c, const struct cloud_session *s,
                       const char *commitment, struct error *err) MUST_CHECK;

#endif

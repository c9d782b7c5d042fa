/* SPDX-License-Identifier: Apache-2.0 */
/*
 * broken.h: what libcrypto once had no memory to load it never has again (recipient/libcrypto.h),
 * and TLS to the cluster and proofs are libcrypto's. So, when something fails after memory lacked,
 * a new process is worth more than this one: it is asked to end as by SIGTERM, which main waits
 * for, and ends with 1, so that whoever started it does so again. Clients repeat; the new process
 * takes up what is half done. Thread-safe.
 */
#ifndef COFFER_SCHEDULER_BROKEN_H
#define COFFER_SCHEDULER_BROKEN_H

#include "common/base.h"
#include "common/error.h"

/* What a client, or a round, is told. SIGTERM is blocked in every thread. */
void scheduler_end_when_broken(const struct error *err);
bool scheduler_is_broken(void); /* it was asked to end for that */

#endif

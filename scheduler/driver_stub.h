/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_stub.h: clouds that are facts in memory alone, for tests of everything above a driver and
 * for the bookkeeping's figures. Test builds only (COFFER_FAULT). Its options:
 *
 *   {"nodes": [{"name": "n1", "memory": BYTES, "storage": BYTES, "vms_max": N}],
 *    "server_key": {"key_id": "stub:1", "hash": "SHA-256", "public_key": BASE64},
 *    "private_key": PATH,  its private half (PEM): sessions are then really opened and checked;
 *                          without it every session opens
 *    "state": PATH,        facts are kept there as JSON and read at the start
 *    "control": PATH,      read at each call when it is there: {"delay": {"attach": MS, …},
 *                          "fail": {"attach": {"code": "UNAVAILABLE", "message": TEXT}, …},
 *                          "vm": {ID or "*": "starting" | "failed"}}
 *   }
 *
 * Calls are named as in driver.h. Thread-safe.
 */
#ifndef COFFER_SCHEDULER_DRIVER_STUB_H
#define COFFER_SCHEDULER_DRIVER_STUB_H

#include "scheduler/driver.h"

extern const struct driver_ops driver_stub_ops;

#endif

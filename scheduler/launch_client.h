/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch_client.h: asks coffer-launch (docs/launch.md): one connection, one JSON object, one
 * answer. Thread-safe. deadline: clock_ms() value. Errors: as coffer-launch answers them;
 * ERR_UNAVAILABLE: it isn't there or ended in mid-answer; ERR_DEADLINE; ERR_INTERNAL: its answer is
 * none.
 */
#ifndef COFFER_SCHEDULER_LAUNCH_CLIENT_H
#define COFFER_SCHEDULER_LAUNCH_CLIENT_H

#include "common/base.h"
#include "common/error.h"
#include "volume/id.h"

struct launch_vm {
    char id[CLOUD_ID_LEN + 1];
    bool running;
    char status[64]; /* how it ended: "exit 1", "signal 9", "out of memory" */
    uint64_t pid, uid;
    uint64_t memory; /* bytes that it uses now */
};

/* *ret_started: it wasn't running before. ERR_PRECONDITION: its volume isn't there. */
int launch_start(const char *socket_path, const char *id, uint64_t deadline, bool *ret_started,
                 struct error *err) MUST_CHECK;
/* Nothing of it is left; there was none: 0 too. */
int launch_stop(const char *socket_path, const char *id, uint64_t grace_ms, uint64_t deadline,
                struct error *err) MUST_CHECK;
/* *ret is the caller's, to be freed; sorted by id. */
int launch_list(const char *socket_path, uint64_t deadline, struct launch_vm **ret, size_t *ret_n,
                struct error *err) MUST_CHECK;
/* NULL: none of that id. */
const struct launch_vm *launch_vm_find(const struct launch_vm *list, size_t n, const char *id);

#endif

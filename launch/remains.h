/* SPDX-License-Identifier: Apache-2.0 */
/* remains.h: what there can be of a VM beside its folder (state.h): processes and their control
 * group, its socket. Taken away in one order, by `stop`, by `start` before it begins anew, and by a
 * `start` that fails. Every function may be repeated after a kill on any line. */
#ifndef COFFER_LAUNCH_REMAINS_H
#define COFFER_LAUNCH_REMAINS_H

#include "common/base.h"
#include "common/error.h"
#include "launch/options.h"

#define KILL_MS 60000 /* for a killed process to be gone: longer is a dead disk */

/* A process of the VM is there. */
int remains_running(const struct options *o, const char *id, bool *ret,
                    struct error *err) MUST_CHECK;
/* <sockets>/<id>.sock */
void remains_socket_path(const struct options *o, const char *id, char ret[108]);
/* Asks its init to end and waits up to the deadline: no error when it doesn't. */
int remains_ask(const struct options *o, const char *id, uint64_t deadline,
                struct error *err) MUST_CHECK;
int remains_kill(const struct options *o, const char *id, struct error *err) MUST_CHECK;
int remains_remove_group(const struct options *o, const char *id, struct error *err) MUST_CHECK;
int remains_remove_socket(const struct options *o, const char *id, struct error *err) MUST_CHECK;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* serve.h: the listener: one process of this program for each connection of a peer that may ask;
 * others get one answer that says no. It reads no request itself. */
#ifndef COFFER_LAUNCH_SERVE_H
#define COFFER_LAUNCH_SERVE_H

#include "common/base.h"
#include "common/error.h"
#include "common/json.h"
#include "launch/options.h"

/* Until SIGTERM or SIGINT: 0. Requests that are being worked on are finished. */
int serve(const struct options *o, char **argv, struct error *err) MUST_CHECK;
/* One answer on a descriptor, and a newline. `reply`: borrowed. */
int answer(int fd, json_t *reply, struct error *err) MUST_CHECK;
/* The same for an error. */
int answer_error(int fd, const struct error *e, struct error *err) MUST_CHECK;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/namespace.h: whether coffer-node means the same process as we do by a pid. Break-glass
 * names its output as /proc/<pid>/fd/<fd>; in another pid namespace that would be somebody else's
 * descriptor, and the passphrase would go there.
 */
#ifndef COFFER_COFFERCTL_NAMESPACE_H
#define COFFER_COFFERCTL_NAMESPACE_H

#include "common/base.h"
#include "common/error.h"

/* 0: who listens on the socket is in our pid namespace. ERR_PRECONDITION: it isn't;
 * ERR_UNAVAILABLE: nobody listens. */
int namespace_check(const char *socket_path, struct error *err) MUST_CHECK;
/* The line "NSpid:" of a /proc/PID/status names one pid only: the process is in no namespace below
 * the one whose /proc that is. */
bool namespace_is_ours(const char *status);

#endif

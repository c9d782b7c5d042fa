/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd/sandbox.h: gives up what keyd doesn't need. Call it once, when OpenSSL is warm: afterwards
 * there is no new program, no executable memory; a system call outside the list kills the process.
 * network: a key service is across a network, so sockets, a resolver's thread and reading files
 * (CA bundle, credentials that change) stay; else these go too. In a sanitizer build the filter is
 * left out (the runtime needs more).
 */
#ifndef COFFER_KEYD_SANDBOX_H
#define COFFER_KEYD_SANDBOX_H

#include "common/base.h"
#include "common/error.h"

int sandbox_enter(bool network, struct error *err) MUST_CHECK;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd/sandbox.h: gives up what keyd doesn't need. Call it once, when every file is open and
 * OpenSSL is warm: afterwards there is no open, no new program, no new socket, no executable
 * memory; a system call outside the list kills the process. In a sanitizer build the filter is left
 * out (the runtime needs more).
 */
#ifndef COFFER_KEYD_SANDBOX_H
#define COFFER_KEYD_SANDBOX_H

#include "common/base.h"
#include "common/error.h"

int sandbox_enter(struct error *err) MUST_CHECK;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.h: the system calls that are left to coffer-crypt once it starts to look at a disk. No
 * socket, no exec, no ptrace, no mount, no new process, no writable and executable memory; ioctl
 * only by number.
 *
 * Anything else ends the process (SIGSYS). An error number instead would let a library take a
 * refused check for "no"; and a kill is what every verb must survive on any line anyway.
 */
#ifndef COFFER_CRYPT_SANDBOX_H
#define COFFER_CRYPT_SANDBOX_H

#include "common/base.h"
#include "common/error.h"

enum sandbox_part {
    SANDBOX_DM_WRITE = 1 << 0, /* make, load and remove mappings, with libdevmapper's nodes */
    SANDBOX_DISK = 1 << 1,     /* read a header */
    SANDBOX_KEYED = 1 << 2,    /* use a key */
    SANDBOX_FORMAT = 1 << 3,   /* write a header */
};

/* Looking at mappings is always allowed. Irrevocable. Not in an AddressSanitizer build, whose
 * runtime needs more. */
int sandbox_enter(unsigned parts, struct error *err) MUST_CHECK;

#endif

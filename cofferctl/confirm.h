/* SPDX-License-Identifier: Apache-2.0 */
/*
 * confirm.h: asks on the terminal before something that can't be taken back. Never reads standard
 * input: what is piped in there must not count as an answer.
 */
#ifndef COFFER_COFFERCTL_CONFIRM_H
#define COFFER_COFFERCTL_CONFIRM_H

#include "common/base.h"
#include "common/error.h"

/* Writes the question to /dev/tty and reads a line: exactly `answer`, or ERR_CANCELED "not
 * confirmed: <otherwise>". No terminal: ERR_PRECONDITION that names --yes. */
int confirm(const char *question, const char *answer, const char *otherwise,
            struct error *err) MUST_CHECK;

#endif

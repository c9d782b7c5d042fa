/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl/textdiff.h: what differs between two small texts, line by line. Pure. */
#ifndef COFFER_COFFERCTL_TEXTDIFF_H
#define COFFER_COFFERCTL_TEXTDIFF_H

#include "common/base.h"
#include "common/strbuf.h"

#define TEXTDIFF_LINES_MAX 1000u

/* Adds one line for each that is only in `before` ("-") or only in `after` ("+"), in order, in a
 * shortest edit. Texts of more lines are shown as replaced whole. */
void textdiff(const char *before, const char *after, struct strbuf *ret);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text.h: the program's own code and constants, which the kernel maps from its file by the
 * neighbourhood of each page that is used.
 */
#ifndef COFFER_COMMON_TEXT_H
#define COFFER_COMMON_TEXT_H

/* When all that runs once has run: what is mapped by then is let go, and what is used from now on
 * comes back from the page cache. A daemon that waits doesn't hold its start any more. Thread-safe.
 */
void text_forget_start(void);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcrypto.h: what libcrypto left in this thread's queue of errors, told apart: that it had no
 * memory says nothing of the key or the text it was given. Thread-safe; the queue is empty after
 * each call.
 */
#ifndef COFFER_RECIPIENT_LIBCRYPTO_H
#define COFFER_RECIPIENT_LIBCRYPTO_H

#include "common/base.h"
#include "common/error.h"

/* An allocation is among what failed since the queue was empty. */
bool libcrypto_no_memory(void);

/* Sets the error of memory, else of `code` with `what`. Returns -1. */
int libcrypto_error(struct error *err, enum error_code code, const char *what);

#endif

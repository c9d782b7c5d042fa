/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcrypto.h: that libcrypto had no memory says nothing of the key or the text it was given, and
 * not each place in it says that: libcrypto_end tells. Where its allocator is wipe.h's (whoever
 * called http_global_init), that one knows; elsewhere libcrypto's queue of errors does, mostly.
 * Thread-safe, for what one thread does between the two. They nest: the inner pair has its own say.
 */
#ifndef COFFER_RECIPIENT_LIBCRYPTO_H
#define COFFER_RECIPIENT_LIBCRYPTO_H

#include "common/base.h"
#include "common/error.h"

void libcrypto_watch(void);

/* rc, after what was done since libcrypto_watch. When it is negative, and an allocation failed,
 * *err becomes the error of memory; one that failed any time before makes it ERR_UNAVAILABLE: what
 * libcrypto had no memory to load it never has again (3.0: random numbers, a cipher, a decoder, for
 * which it calls every key none). A new process can tell. Empties the queue of errors. */
int libcrypto_end(int rc, struct error *err);

/* A pem_password_cb: there is none. Without it libcrypto asks on the terminal, or standard input,
 * for every PEM whose headers say that it is encrypted, a public key too. */
int libcrypto_no_passphrase(char *buf, int size, int writing, void *ctx);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* unix_connect.h: a connection to a unix stream socket of this machine, and what is read and
 * written on it, by a deadline (clock_ms() value). Blocks no longer than that. Thread-safe. */
#ifndef COFFER_SCHEDULER_UNIX_CONNECT_H
#define COFFER_SCHEDULER_UNIX_CONNECT_H

#include "common/base.h"
#include "common/error.h"

#define UNIX_PATH_MAX_LEN 107u /* sun_path without its NUL */

/* ERR_UNAVAILABLE: nobody listens there, or too many wait already. */
int unix_connect(const char *path, uint64_t deadline, int *ret_fd, struct error *err) MUST_CHECK;
/* ERR_UNAVAILABLE: the peer went away; ERR_DEADLINE. */
int unix_write(int fd, const void *data, size_t len, uint64_t deadline,
               struct error *err) MUST_CHECK;
/* At most `size` bytes; *ret_len 0: the end. Errors as unix_write's. */
int unix_read(int fd, void *to, size_t size, uint64_t deadline, size_t *ret_len,
              struct error *err) MUST_CHECK;

#endif

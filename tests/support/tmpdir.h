/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tmpdir.h: a private directory for one test, removed with everything in it at scope end:
 *   AUTO_TMPDIR struct tmpdir t = tmpdir_make();
 * Any failure ends the test program: a test without its directory has nothing to say.
 */
#ifndef COFFER_TESTS_SUPPORT_TMPDIR_H
#define COFFER_TESTS_SUPPORT_TMPDIR_H

#include "common/base.h"

struct tmpdir {
    char path[512]; /* absolute, without symlinks */
    int fd;
};

struct tmpdir tmpdir_make(void);
void tmpdir_remove(struct tmpdir *t);
/* "<dir>/<name>" into a buffer that the next 4 calls of this thread leave alone. */
const char *tmpdir_path(const struct tmpdir *t, const char *name);
/* Creates or replaces a file. */
void tmpdir_write(const struct tmpdir *t, const char *name, const void *data, size_t len);
/* A file's content as text; the caller frees. NULL when there is no such file. */
char *tmpdir_read(const struct tmpdir *t, const char *name);

#define AUTO_TMPDIR __attribute__((cleanup(tmpdir_remove)))

#endif

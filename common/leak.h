/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leak.h: places that give a key away on purpose, so that the story `leaks` proves that its scanner
 * would see it. Only in PROFILE=leaky; in every other build LEAK is nothing and the code is not
 * there (make lint checks).
 *
 * The leaky build reads the file `leak` in COFFER_FAULT_DIR at each place: "<place> <way>". Ways:
 * log-raw, log-hex, log-upper, log-base64, argv, env, file, core, memory (leak.c). Nothing armed,
 * nothing leaked.
 */
#ifndef COFFER_COMMON_LEAK_H
#define COFFER_COMMON_LEAK_H

#include "common/base.h"

#ifdef COFFER_LEAKY
void leak_data(const char *place, const void *data, size_t len);
/* What is in the pipe now, which stays there for its reader. */
void leak_pipe(const char *place, int fd);
#define LEAK(place, data, len) leak_data((place), (data), (len))
#define LEAK_PIPE(place, fd)   leak_pipe((place), (fd))
#define LEAK_DO(call)          call
#else
#define LEAK(place, data, len) ((void)0)
#define LEAK_PIPE(place, fd)   ((void)0)
#define LEAK_DO(call)          ((void)0)
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base.h: the first include of every file. Attributes and tiny macros, nothing else;
 * it ends by making the string functions that hide truncation a compile error.
 */
#ifndef COFFER_COMMON_BASE_H
#define COFFER_COMMON_BASE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARRAY_SIZE(a)          (sizeof(a) / sizeof((a)[0]))
#define MUST_CHECK             __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define UNUSED                 __attribute__((unused))

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

#ifdef COFFER_FAULT
#include "common/fault_alloc.h" /* test builds: any allocation can be told to fail */
#endif

/* Functions that cannot say that they truncated, or that hide a static buffer. */
#define strcpy(x, y)     banned_strcpy_use_strbuf
#define strcat(x, y)     banned_strcat_use_strbuf
#define strncpy(x, y, n) banned_strncpy_use_strbuf
#define strncat(x, y, n) banned_strncat_use_strbuf
#define sprintf(...)     banned_sprintf_use_strbuf
#define vsprintf(...)    banned_vsprintf_use_strbuf
#define strtok(x, y)     banned_strtok
#define atoi(x)          banned_atoi_use_parse
#define system(x)        banned_system_use_proc
#define popen(x, y)      banned_popen_use_proc

#endif

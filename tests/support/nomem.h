/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nomem.h: makes the n-th allocation of a program fail. Including it replaces malloc, calloc and
 * realloc of the whole program, so only a test's own .c does (in an archive, the linker would take
 * them for everybody).
 * Not with a sanitizer, which has its own: nomem_works() says so. One thread.
 */
#ifndef COFFER_TESTS_SUPPORT_NOMEM_H
#define COFFER_TESTS_SUPPORT_NOMEM_H

#include "common/base.h"

#include <errno.h>

static unsigned int nomem_left; /* until the failing one; 0: not armed */
static bool nomem_happened;

static inline UNUSED bool nomem_works(void)
{
#ifdef COFFER_SANITIZER
    return false;
#else
    return true;
#endif
}

/* The n-th allocation from now on fails, once; 0: none. */
static inline UNUSED void nomem_arm(unsigned int n)
{
    nomem_left = n;
    nomem_happened = false;
}

/* True: it happened. */
static inline UNUSED bool nomem_disarm(void)
{
    nomem_left = 0;
    return nomem_happened;
}

#ifndef COFFER_SANITIZER

/* a test build's own (common/fault_alloc.h) end in these */
#undef malloc
#undef calloc
#undef realloc

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);

static bool nomem_fails(void)
{
    if (nomem_left == 0 || --nomem_left > 0)
        return false;
    nomem_happened = true;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return nomem_fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return nomem_fails() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    return nomem_fails() ? NULL : __libc_realloc(p, size);
}

#endif

#endif

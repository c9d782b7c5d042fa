/* SPDX-License-Identifier: Apache-2.0 */
/*
 * freed.h: looks for a text in every block that a program gives back. Including it replaces free
 * and realloc of the whole program, so only a test's own .c does. Not with a sanitizer, which has
 * its own: freed_works() says so. One thread.
 */
#ifndef COFFER_TESTS_SUPPORT_FREED_H
#define COFFER_TESTS_SUPPORT_FREED_H

#include "common/base.h"

#include <malloc.h>

static const char *freed_needle; /* NULL: nothing is looked for */
static unsigned int freed_found; /* blocks that had it */

static inline bool freed_works(void)
{
#ifdef COFFER_SANITIZER
    return false;
#else
    return true;
#endif
}

#ifndef COFFER_SANITIZER

/* a test build's own (common/fault_alloc.h) end in these */
#undef realloc
#undef free

void *__libc_realloc(void *p, size_t size);
void __libc_free(void *p);

static void freed_look(const void *p)
{
    if (p != NULL && freed_needle != NULL &&
        memmem(p, malloc_usable_size((void *)(uintptr_t)p), freed_needle, strlen(freed_needle)))
        freed_found++;
}

void free(void *p)
{
    freed_look(p);
    __libc_free(p);
}

/* It may move, and leave the old bytes behind; that it doesn't now says nothing. */
void *realloc(void *p, size_t size)
{
    freed_look(p);
    return __libc_realloc(p, size);
}

#endif

#endif

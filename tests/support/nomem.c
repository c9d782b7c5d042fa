/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "tests/support/nomem.h"

#include <errno.h>

#ifdef COFFER_ASAN

bool nomem_works(void)
{
    return false;
}

void nomem_arm(unsigned int n)
{
    (void)n;
}

bool nomem_disarm(void)
{
    return false;
}

#else

static unsigned int left; /* until the failing one; 0: not armed */
static bool happened;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);

static bool fails(void)
{
    if (left == 0 || --left > 0)
        return false;
    happened = true;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return fails() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    return fails() ? NULL : __libc_realloc(p, size);
}

bool nomem_works(void)
{
    return true;
}

void nomem_arm(unsigned int n)
{
    left = n;
    happened = false;
}

bool nomem_disarm(void)
{
    left = 0;
    return happened;
}

#endif

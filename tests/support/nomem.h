/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nomem.h: makes the n-th allocation of a program fail. A test that uses it replaces malloc, calloc and
 * realloc for everything it links. Not with AddressSanitizer, which has its own: nomem_works() says so.
 */
#ifndef COFFER_TESTS_SUPPORT_NOMEM_H
#define COFFER_TESTS_SUPPORT_NOMEM_H

#include "common/base.h"

bool nomem_works(void);
void nomem_arm(unsigned int n); /* the n-th allocation from now on fails, once; 0: none */
bool nomem_disarm(void);        /* true: it happened */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault_alloc.h: in a test build every allocation of our own code, and of the libraries that take
 * theirs from it (jansson, protobuf-c; in coffer-keyd libcurl and libcrypto too), can be the one
 * that fails. base.h includes it there and nowhere else; in every other build it isn't there.
 *
 * The file P.alloc in COFFER_FAULT_DIR (P: the program's name) is mapped at the first allocation,
 * if it exists then: two native 64-bit words, which number fails (0: none) and how many there have
 * been, which a test writes while the program runs; then, as far as the file goes, a word for each
 * that was seen: its place, a hash of the call stack that is the same in every run. Processes of
 * one name share it all. Thread-safe; no system call but at the first allocation.
 */
#ifndef COFFER_COMMON_FAULT_ALLOC_H
#define COFFER_COMMON_FAULT_ALLOC_H

/* After the headers that declare what is replaced here. */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

void *fault_malloc(size_t size);
void *fault_calloc(size_t n, size_t size);
void *fault_realloc(void *p, size_t size);
void *fault_aligned_alloc(size_t alignment, size_t size);
char *fault_strdup(const char *text);
char *fault_strndup(const char *text, size_t size);

/* With arguments alone: a name that is passed on as a pointer stays the C library's. */
#ifndef FAULT_ALLOC_ITSELF
#define malloc(size)                   fault_malloc(size)
#define calloc(n, size)                fault_calloc((n), (size))
#define realloc(p, size)               fault_realloc((p), (size))
#define aligned_alloc(alignment, size) fault_aligned_alloc((alignment), (size))
#undef strdup
#define strdup(text) fault_strdup(text)
#undef strndup
#define strndup(text, size) fault_strndup((text), (size))
#endif

#endif

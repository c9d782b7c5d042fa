/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleanup.h: ownership by scope. `AUTO_FREE char *p = NULL;` frees at scope end,
 * `return TAKE_PTR(p);` hands over. Every AUTO variable is initialised where it is declared.
 * The helpers keep errno. No goto beside AUTO variables.
 */
#ifndef COFFER_COMMON_CLEANUP_H
#define COFFER_COMMON_CLEANUP_H

#include "common/base.h"

#include <errno.h>
#include <unistd.h>

static inline void cleanup_free(void *p)
{
    int saved = errno;
    free(*(void **)p);
    errno = saved;
}

static inline void cleanup_close(const int *fd)
{
    int saved = errno;
    if (*fd >= 0)
        (void)close(*fd);
    errno = saved;
}

#define AUTO_FREE  __attribute__((cleanup(cleanup_free)))
#define AUTO_CLOSE __attribute__((cleanup(cleanup_close)))

/* For a type T with `void T_free(struct T *)` that accepts NULL: DEFINE_AUTO(arena, arena_free)
 * makes cleanup_arena; then `#define AUTO_ARENA __attribute__((cleanup(cleanup_arena)))`. */
#define DEFINE_AUTO(name, free_function)                      \
    static inline UNUSED void cleanup_##name(struct name **p) \
    {                                                         \
        if (*p != NULL)                                       \
            free_function(*p);                                \
    }

#define TAKE_PTR(p)                 \
    ({                              \
        __typeof__(p) taken_ = (p); \
        (p) = NULL;                 \
        taken_;                     \
    })

#define TAKE_FD(fd)        \
    ({                     \
        int taken_ = (fd); \
        (fd) = -1;         \
        taken_;            \
    })

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#define FAULT_ALLOC_ITSELF
#include "common/base.h"
#include "common/fault_alloc.h"

#ifdef COFFER_FAULT

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

struct count {
    _Atomic uint64_t fail_at;
    _Atomic uint64_t seen;
};

static struct count *count; /* NULL: nobody asked */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void map_count(void)
{
    const char *folder = getenv("COFFER_FAULT_DIR");
    char path[PATH_MAX];
    AUTO_CLOSE int fd = -1;
    void *p;

    if (folder == NULL)
        return;
    (void)snprintf(path, sizeof(path), "%s/%s.alloc", folder, program_invocation_short_name);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    p = mmap(NULL, sizeof(*count), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p != MAP_FAILED)
        count = p;
}

static bool fails(void)
{
    int saved = errno;

    (void)pthread_once(&once, map_count);
    errno = saved;
    if (count == NULL || atomic_fetch_add(&count->seen, 1) + 1 != atomic_load(&count->fail_at))
        return false;
    errno = ENOMEM;
    return true;
}

void *fault_malloc(size_t size)
{
    return fails() ? NULL : malloc(size);
}

void *fault_calloc(size_t n, size_t size)
{
    return fails() ? NULL : calloc(n, size);
}

void *fault_realloc(void *p, size_t size)
{
    return fails() ? NULL : realloc(p, size);
}

void *fault_aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : aligned_alloc(alignment, size);
}

char *fault_strdup(const char *text)
{
    return fails() ? NULL : strdup(text);
}

char *fault_strndup(const char *text, size_t size)
{
    return fails() ? NULL : strndup(text, size);
}

#else

/* ISO C wants at least one declaration in a file. */
typedef int fault_alloc_not_built;

#endif

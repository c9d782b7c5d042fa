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
#include <sys/stat.h>
#include <unistd.h>
#include <unwind.h>

#define FRAMES 10 /* of a place: enough to tell what a library allocates for, and for whom */

struct count {
    _Atomic uint64_t fail_at;
    _Atomic uint64_t seen;
    _Atomic uint64_t places[]; /* of each that was seen, as far as the file goes */
};

static struct count *count; /* NULL: nobody asked */
static uint64_t n_places;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void map_count(void)
{
    const char *folder = getenv("COFFER_FAULT_DIR");
    char path[PATH_MAX];
    AUTO_CLOSE int fd = -1;
    struct stat st;
    void *p;

    if (folder == NULL)
        return;
    (void)snprintf(path, sizeof(path), "%s/%s.alloc", folder, program_invocation_short_name);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < (off_t)sizeof(*count))
        return;
    p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return;
    n_places = ((uint64_t)st.st_size - sizeof(*count)) / sizeof(count->places[0]);
    count = p;
}

struct walk {
    uint64_t hash;
    unsigned left;
};

/* FNV-1a of what doesn't move with the address space's layout: each frame's place in its page. */
static _Unwind_Reason_Code add_frame(struct _Unwind_Context *frame, void *ctx)
{
    struct walk *w = ctx;

    w->hash = (w->hash ^ (_Unwind_GetIP(frame) & 0xfff)) * 0x100000001b3u;
    return --w->left == 0 ? _URC_END_OF_STACK : _URC_NO_REASON;
}

static uint64_t place(void)
{
    struct walk w = { .hash = 0xcbf29ce484222325u, .left = FRAMES };

    (void)_Unwind_Backtrace(add_frame, &w);
    return w.hash;
}

static bool fails(void)
{
    int saved = errno;

    (void)pthread_once(&once, map_count);
    errno = saved;
    if (count == NULL)
        return false;
    uint64_t number = atomic_fetch_add(&count->seen, 1) + 1;
    if (number <= n_places)
        atomic_store(&count->places[number - 1],
                     place()); /* `seen` begins again, set from outside */
    errno = saved;
    if (number != atomic_load(&count->fail_at))
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

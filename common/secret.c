/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/secret.h"

#include "common/b64.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#define CAPACITY_MAX 65536u

/* This description lives on the heap: in the pages it would be wiped in a forked child. */
struct secret {
    unsigned char *map;  /* the pages, then one that can't be touched */
    size_t pages_size;   /* without the guard */
    unsigned char *room; /* ends where the guard begins: one byte too far is a SIGSEGV */
    size_t capacity;
    size_t len;
};

/* Wiped pages that wait for the next secret: making some costs seven system calls, and coffer-keyd
 * needs two for each key. Bounded; of one page each. */
#define SPARE_MAX 16u

static struct {
    pthread_mutex_t lock;
    unsigned char *maps[SPARE_MAX];
    size_t n;
} spare = { .lock = PTHREAD_MUTEX_INITIALIZER };

static unsigned char *take_spare(void)
{
    unsigned char *map = NULL;

    (void)pthread_mutex_lock(&spare.lock);
    if (spare.n > 0)
        map = spare.maps[--spare.n];
    (void)pthread_mutex_unlock(&spare.lock);
    return map;
}

static bool keep_spare(unsigned char *map)
{
    bool kept = false;

    (void)pthread_mutex_lock(&spare.lock);
    if (spare.n < SPARE_MAX) {
        spare.maps[spare.n++] = map;
        kept = true;
    }
    (void)pthread_mutex_unlock(&spare.lock);
    return kept;
}

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static int protect_pages(unsigned char *map, size_t size, size_t page, struct error *err)
{
    if (mprotect(map + size, page, PROT_NONE) < 0)
        return error_errno(err, errno, "protect the guard page of a secret");
    if (madvise(map, size, MADV_DONTDUMP) < 0)
        return error_errno(err, errno, "keep a secret out of core dumps");
    if (madvise(map, size, MADV_WIPEONFORK) < 0)
        return error_errno(err, errno, "keep a secret out of forked processes");
    (void)mlock(map, size); /* best effort: RLIMIT_MEMLOCK is small for unprivileged users */
    return 0;
}

static int map_pages(size_t size, unsigned char **ret, struct error *err)
{
    size_t page = page_size();
    unsigned char *map = size == page ? take_spare() : NULL;

    if (map != NULL) {
        *ret = map;
        return 0;
    }
    map = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (map == MAP_FAILED)
        return error_errno(err, errno, "map %zu bytes for a secret", size + page);
    if (protect_pages(map, size, page, err) < 0) {
        (void)munmap(map, size + page);
        return -1;
    }
    *ret = map;
    return 0;
}

struct secret *secret_new(size_t capacity, struct error *err)
{
    AUTO_FREE struct secret *s = calloc(1, sizeof(*s));
    size_t page = page_size();

    if (s == NULL) {
        (void)error_memory(err);
        return NULL;
    }
    if (capacity == 0 || capacity > CAPACITY_MAX) {
        (void)error_set(err, ERR_EXHAUSTED, "no room for a secret of %zu bytes", capacity);
        return NULL;
    }
    s->pages_size = (capacity + page - 1) / page * page;
    s->capacity = capacity;
    if (map_pages(s->pages_size, &s->map, err) < 0) {
        (void)error_recode(err, ERR_EXHAUSTED);
        return NULL;
    }
    s->room = s->map + (s->pages_size - capacity);
    return TAKE_PTR(s);
}

void secret_free(struct secret *s)
{
    if (s == NULL)
        return;
    explicit_bzero(s->map, s->pages_size);
    if (s->pages_size != page_size() || !keep_spare(s->map))
        (void)munmap(s->map, s->pages_size + page_size());
    explicit_bzero(s, sizeof(*s));
    free(s);
}

unsigned char *secret_bytes(struct secret *s)
{
    return s->room;
}

const unsigned char *secret_data(const struct secret *s)
{
    return s->room;
}

size_t secret_len(const struct secret *s)
{
    return s->len;
}

size_t secret_capacity(const struct secret *s)
{
    return s->capacity;
}

void secret_set_len(struct secret *s, size_t len)
{
    if (len > s->capacity)
        abort();
    s->len = len;
}

bool secret_equal(const struct secret *a, const struct secret *b)
{
    /* volatile: the compiler must not stop at the first difference */
    volatile unsigned char diff = 0;

    if (a->len != b->len)
        return false;
    for (size_t i = 0; i < a->len; i++)
        diff = (unsigned char)(diff | (a->room[i] ^ b->room[i]));
    return diff == 0;
}

int secret_random(struct secret *s, size_t len, struct error *err)
{
    if (len > s->capacity)
        return error_set(err, ERR_INTERNAL, "a secret of %zu bytes can't hold %zu random ones",
                         s->capacity, len);
    for (size_t done = 0; done < len;) {
        ssize_t n = getrandom(s->room + done, len - done, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_errno(err, errno, "get random bytes");
        done += (size_t)n;
    }
    s->len = len;
    return 0;
}

int secret_hex(struct secret *dst, const struct secret *src, struct error *err)
{
    char digits[3];

    if (src->len > dst->capacity / 2)
        return error_set(err, ERR_INTERNAL, "a secret of %zu bytes can't hold %zu hex digits",
                         dst->capacity, 2 * src->len);
    for (size_t i = 0; i < src->len; i++) {
        hex_encode(digits, &src->room[i], 1);
        memcpy(dst->room + 2 * i, digits, 2);
    }
    explicit_bzero(digits, sizeof(digits));
    dst->len = 2 * src->len;
    return 0;
}

int secret_harden_process(struct error *err)
{
    const struct rlimit none = { .rlim_cur = 0, .rlim_max = 0 };

    if (setrlimit(RLIMIT_CORE, &none) < 0)
        return error_errno(err, errno, "set RLIMIT_CORE to 0");
#ifndef COFFER_SANITIZER /* its leak check ptraces its own process */
    if (prctl(PR_SET_DUMPABLE, 0L, 0L, 0L, 0L) < 0)
        return error_errno(err, errno, "set PR_SET_DUMPABLE to 0");
#endif
    return 0;
}

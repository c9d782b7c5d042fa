/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/arena.h"

#include <stdarg.h>

#define ALIGN       16u
#define BLOCK_SIZE  4096u /* of a block's room; the one kept by reset has this size */
#define ALIGN_UP(n) (((n) + (ALIGN - 1)) & ~(size_t)(ALIGN - 1))

struct block {
    struct block *next;
    size_t used; /* bytes handed out */
    size_t size; /* bytes of room */
    uint64_t pad;
    unsigned char room[];
};

_Static_assert(offsetof(struct block, room) % ALIGN == 0, "room must be aligned");

struct arena {
    struct block *head; /* the block allocations come from */
    size_t limit;
    size_t total; /* bytes handed out from all blocks */
};

struct arena *arena_new(size_t limit)
{
    struct arena *a = calloc(1, sizeof(*a));

    if (a != NULL)
        a->limit = limit;
    return a;
}

static struct block *block_new(size_t size)
{
    struct block *b = malloc(sizeof(*b) + size);

    if (b == NULL)
        return NULL;
    b->next = NULL;
    b->used = 0;
    b->size = size;
    return b;
}

static void *take(struct arena *a, struct block *b, size_t size)
{
    void *p = b->room + b->used;

    b->used += size;
    a->total += size;
    memset(p, 0, size);
    return p;
}

void *arena_alloc(struct arena *a, size_t size)
{
    struct block *b = a->head;

    if (size > a->limit)
        return NULL;
    size = ALIGN_UP(size > 0 ? size : 1);
    if (size > a->limit || a->total > a->limit - size)
        return NULL;
    if (b != NULL && size <= b->size - b->used)
        return take(a, b, size);
    b = block_new(size > BLOCK_SIZE ? size : BLOCK_SIZE);
    if (b == NULL)
        return NULL;
    b->next = a->head;
    a->head = b;
    return take(a, b, size);
}

char *arena_strdup(struct arena *a, const char *text)
{
    size_t len = strlen(text);
    char *p = arena_alloc(a, len + 1);

    if (p != NULL)
        memcpy(p, text, len + 1);
    return p;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list args;
    char *p;
    int n;

    va_start(args, fmt);
    n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    p = n < 0 ? NULL : arena_alloc(a, (size_t)n + 1);
    if (p == NULL)
        return NULL;
    va_start(args, fmt);
    (void)vsnprintf(p, (size_t)n + 1, fmt, args);
    va_end(args);
    return p;
}

static void drop(struct arena *a, bool keep_one)
{
    struct block *kept = NULL, *next;

    for (struct block *b = a->head; b != NULL; b = next) {
        next = b->next;
        explicit_bzero(b->room, b->used);
        b->used = 0;
        if (keep_one && kept == NULL && b->size == BLOCK_SIZE) {
            kept = b;
            kept->next = NULL;
        } else {
            free(b);
        }
    }
    a->head = kept;
    a->total = 0;
}

void arena_reset(struct arena *a)
{
    drop(a, true);
}

void arena_free(struct arena *a)
{
    if (a == NULL)
        return;
    drop(a, false);
    free(a);
}

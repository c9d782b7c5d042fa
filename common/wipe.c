/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/wipe.h"

#include <malloc.h>
#include <stdatomic.h>

static _Thread_local bool lacked;
static atomic_bool ever;

void wipe_watch(void)
{
    lacked = false;
}

bool wipe_lacked(void)
{
    return lacked;
}

bool wipe_ever_lacked(void)
{
    return atomic_load(&ever);
}

bool wipe_explains(const struct error *err)
{
    return (err->code == ERR_INTERNAL || err->code == ERR_UNAVAILABLE) && wipe_ever_lacked();
}

static void *noted(void *p)
{
    if (p == NULL) {
        lacked = true;
        atomic_store(&ever, true);
    }
    return p;
}

void *wipe_malloc(size_t size)
{
    return noted(malloc(size));
}

void *wipe_calloc(size_t n, size_t size)
{
    return noted(calloc(n, size));
}

void wipe_free(void *p)
{
    if (p == NULL)
        return;
    explicit_bzero(p, malloc_usable_size(p));
    free(p);
}

/* realloc(3) may move the block and leave the old bytes behind. */
void *wipe_realloc(void *p, size_t size)
{
    if (p == NULL)
        return wipe_malloc(size);
    size_t old = malloc_usable_size(p);
    if (size != 0 && size <= old && size >= old / 2)
        return p;
    void *fresh = wipe_malloc(size);
    if (fresh == NULL)
        return NULL;
    memcpy(fresh, p, old < size ? old : size);
    wipe_free(p);
    return fresh;
}

char *wipe_strdup(const char *text)
{
    return noted(strdup(text));
}

int wipe_buffer_add(struct wipe_buffer *b, const void *data, size_t len, size_t max)
{
    if (len > max || b->len > max - len)
        return -1;
    size_t have = b->bytes == NULL ? 0 : malloc_usable_size(b->bytes);
    size_t need = b->len + len + 1;
    if (need > have) {
        char *bytes = wipe_realloc(b->bytes, need < 2 * have ? 2 * have : need);
        if (bytes == NULL)
            return -1;
        b->bytes = bytes;
    }
    memcpy(b->bytes + b->len, data, len);
    b->len += len;
    b->bytes[b->len] = '\0';
    return 0;
}

void wipe_buffer_release(struct wipe_buffer *b)
{
    wipe_free(b->bytes);
    *b = (struct wipe_buffer)WIPE_BUFFER_INIT;
}

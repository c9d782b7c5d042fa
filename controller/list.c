/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list.c: ListVolumes in ascending order of the id text over all pools; a page's token is its last
 * id, so deleting that volume breaks nothing. A volume whose record can't be read is listed with
 * unknown capacity (0): it exists.
 */
#include "common/base.h"
#include "controller/controller.h"

/* gRPC clients take 4 MiB; an entry has at most about 700 bytes. */
#define PAGE_MAX 4000

struct listing {
    const struct controller *c;
    struct arena *arena;
    struct pool *pool;
    struct csi_volume *items;
    size_t n, max;
    bool more;
    int result;
    struct error *err;
};

static int add_unreadable(struct listing *l, const char *id)
{
    struct record r = { .gen = 0 };

    if (str_copy(r.id, sizeof(r.id), id) < 0)
        return error_set(l->err, ERR_INTERNAL, "list: an id is too long");
    if (reply_volume(l->c, l->arena, &r, &l->items[l->n], l->err) < 0)
        return -1;
    l->items[l->n++].volume_context = (struct csi_map){ .items = NULL, .n = 0 };
    return 0;
}

/* One volume whose record can't be read must not hide all others. These errors don't speak of one
 * volume: the pool is away, or this process has no memory or descriptors left. */
static bool is_of_all(enum error_code code)
{
    return code == ERR_UNAVAILABLE || code == ERR_EXHAUSTED;
}

/* 1 = belongs into the list; 0 = does not (being made or deleted). */
static int look(struct listing *l, const char *id, struct record *ret, bool *ret_readable)
{
    struct error local = ERROR_INIT;
    struct volume_id parsed;

    if (volume_id_parse(id, &parsed, l->err) < 0)
        return -1;
    *ret_readable = l->pool->ops->peek_record(l->pool, &parsed, ret, &local) == 0;
    if (*ret_readable)
        return record_is_live(ret) ? 1 : 0;
    if (local.code == ERR_NOT_FOUND)
        return 0;
    return is_of_all(local.code) ? error_pass(l->err, &local) : 1;
}

static int add(struct listing *l, const char *id)
{
    struct record r;
    bool readable;
    int wanted = look(l, id, &r, &readable);

    if (wanted <= 0)
        return wanted;
    if (l->n == l->max) {
        l->more = true;
        return 0;
    }
    if (!readable)
        return add_unreadable(l, id);
    if (reply_volume(l->c, l->arena, &r, &l->items[l->n], l->err) < 0)
        return -1;
    l->n++;
    return 0;
}

static bool on_id(void *ctx, const char *id)
{
    struct listing *l = ctx;

    l->result = add(l, id);
    return l->result == 0 && !l->more;
}

/* '-' sorts before '.', so "a-b.…" is before "a.…": pools go by their name with the dot. */
static int compare_pools(const void *a, const void *b)
{
    const struct pool *const *x = a, *const *y = b;
    char left[POOL_NAME_MAX + 2], right[POOL_NAME_MAX + 2];

    (void)snprintf(left, sizeof(left), "%s.", (*x)->config->name);
    (void)snprintf(right, sizeof(right), "%s.", (*y)->config->name);
    return strcmp(left, right);
}

static int list_pools(struct listing *l, const char *after)
{
    const struct pool_set *set = l->c->pools;
    struct pool **sorted = arena_alloc(l->arena, (set->n + 1) * sizeof(struct pool *));

    if (sorted == NULL)
        return error_set(l->err, ERR_EXHAUSTED, "out of memory for the list");
    for (size_t i = 0; i < set->n; i++)
        sorted[i] = set->pools[i];
    qsort(sorted, set->n, sizeof(struct pool *), compare_pools);
    for (size_t i = 0; i < set->n && !l->more; i++) {
        l->pool = sorted[i];
        if (pool_ready(l->pool, l->err) < 0 ||
            l->pool->ops->list(l->pool, after, on_id, l, l->err) < 0 || l->result < 0)
            return -1;
    }
    return 0;
}

static int check_token(const char *token, struct error *err)
{
    struct error ignored = ERROR_INIT;
    struct volume_id id;

    if (token[0] == '\0' || volume_id_parse(token, &id, &ignored) == 0)
        return 0;
    return error_set(err, ERR_ABORTED,
                     "starting_token is not one that ListVolumes gave: start again without it");
}

int controller_list(void *ctx, struct csi_call *call, const struct csi_list_request *req,
                    struct csi_list_reply *ret, struct error *err)
{
    struct listing l = { .c = ctx, .arena = call->arena, .max = PAGE_MAX, .err = err };

    if (check_token(req->starting_token, err) < 0)
        return -1;
    if (req->max_entries > 0 && req->max_entries < PAGE_MAX)
        l.max = (size_t)req->max_entries;
    l.items = arena_alloc(l.arena, l.max * sizeof(*l.items));
    if (l.items == NULL)
        return error_set(err, ERR_EXHAUSTED, "out of memory for the list");
    if (list_pools(&l, req->starting_token) < 0)
        return -1;
    *ret = (struct csi_list_reply){ .items = l.items,
                                    .n = l.n,
                                    .next_token = l.more ? l.items[l.n - 1].volume_id : "" };
    return 0;
}

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
    struct arena *arena;
    struct csi_topologies topology;
    struct csi_volume *items;
    size_t n, max;
    bool more;
    int result;
    struct error *err;
};

/* One volume whose record can't be read must not hide all others. These errors don't speak of one
 * volume: the pool is away, or this process has no memory or descriptors left. */
static bool is_of_all(enum error_code code)
{
    return code == ERR_UNAVAILABLE || code == ERR_EXHAUSTED;
}

static int add_unreadable(struct listing *l, const char *id)
{
    struct csi_volume v = { .volume_id = arena_strdup(l->arena, id),
                            .accessible_topology = l->topology };

    if (v.volume_id == NULL)
        return error_set(l->err, ERR_EXHAUSTED, "out of memory for the reply");
    l->items[l->n++] = v;
    return 0;
}

/* One that is being made or deleted doesn't belong into the list. */
static bool belongs(const struct record_summary *r, const struct error *problem)
{
    return r != NULL ? record_is_live(r->state) : problem->code != ERR_NOT_FOUND;
}

static int add(struct listing *l, const char *id, const struct record_summary *r,
               const struct error *problem)
{
    if (!belongs(r, problem))
        return 0;
    if (r == NULL && is_of_all(problem->code))
        return error_pass(l->err, problem);
    if (l->n == l->max) {
        l->more = true;
        return 0;
    }
    if (r == NULL)
        return add_unreadable(l, id);
    if (reply_volume(l->arena, id, r, &l->topology, &l->items[l->n], l->err) < 0)
        return -1;
    l->n++;
    return 0;
}

static bool on_volume(void *ctx, const char *id, const struct record_summary *r,
                      const struct error *problem)
{
    struct listing *l = ctx;

    l->result = add(l, id, r, problem);
    return l->result == 0 && !l->more;
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
    const struct controller *c = ctx;
    struct listing l = { .arena = call->arena, .max = PAGE_MAX, .err = err };

    if (check_token(req->starting_token, err) < 0)
        return -1;
    if (req->max_entries > 0 && req->max_entries < PAGE_MAX)
        l.max = (size_t)req->max_entries;
    l.items = arena_alloc(l.arena, l.max * sizeof(*l.items));
    if (l.items == NULL)
        return error_set(err, ERR_EXHAUSTED, "out of memory for the list");
    if (reply_topology(c, l.arena, &l.topology, err) < 0 ||
        pool_set_list_records(c->pools, req->starting_token, on_volume, &l, err) < 0 ||
        l.result < 0)
        return -1;
    *ret = (struct csi_list_reply){ .items = l.items,
                                    .n = l.n,
                                    .next_token = l.more ? l.items[l.n - 1].volume_id : "" };
    return 0;
}

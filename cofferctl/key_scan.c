/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/key_scan.h"

struct scan {
    struct pool *pool;
    json_t *gaps;
    key_scan_cb *cb;
    void *ctx;
    struct error *err;
    bool failed;
};

int key_scan_gap(json_t *gaps, const char *what, const char *problem, struct error *err)
{
    json_t *gap = json_pack("{s:s, s:s}", "what", what, "problem", problem);

    if (gap == NULL || json_array_append_new(gaps, gap) < 0)
        return error_memory(err);
    return 0;
}

static bool look(void *ctx, const char *text)
{
    struct scan *s = ctx;
    const struct record_claim claim = { .id = text };
    struct error problem = ERROR_INIT;
    struct volume_id id;
    struct record r;
    int result;

    if (volume_id_parse(text, &id, &problem) == 0 &&
        s->pool->ops->peek_record(s->pool, &id, &r, &problem) == 0 &&
        record_matches(&r, &claim, &problem) == 0)
        result = s->cb(s->ctx, s->pool, &id, &r, s->err);
    else if (problem.code == ERR_NOT_FOUND)
        result = 0;
    else
        result = key_scan_gap(s->gaps, text, problem.msg, s->err);
    s->failed = result < 0;
    return !s->failed;
}

static int scan_pool(struct scan *s, struct error *err)
{
    struct error problem = ERROR_INIT;
    char what[POOL_NAME_MAX + 16];

    if (pool_ready(s->pool, &problem) == 0 &&
        s->pool->ops->list(s->pool, "", look, s, &problem) == 0 &&
        (s->failed || s->pool->ops->settle(s->pool, &problem) == 0))
        return s->failed ? -1 : 0;
    (void)snprintf(what, sizeof(what), "pool '%s'", s->pool->config->name);
    return key_scan_gap(s->gaps, what, problem.msg, err);
}

int key_scan(struct pool_set *set, json_t *gaps, key_scan_cb *cb, void *ctx, struct error *err)
{
    struct scan s = { .gaps = gaps, .cb = cb, .ctx = ctx, .err = err };

    for (size_t i = 0; i < set->n; i++) {
        s.pool = set->pools[i];
        if (scan_pool(&s, err) < 0)
            return -1;
    }
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * validate.c: ValidateVolumeCapabilities. Absent is NOT_FOUND; anything that doesn't hold is an
 * answer ("not confirmed", with the reason), not an error.
 */
#include "common/base.h"
#include "controller/controller.h"

#include "volume/fskind.h"

static int peek(struct controller *c, const char *volume_id, struct record *ret, struct error *err)
{
    struct volume_id id;
    struct pool *pool;

    if (volume_id_parse(volume_id, &id, err) < 0 ||
        pool_set_for_id(c->pools, &id, &pool, err) < 0 ||
        pool->ops->peek_record(pool, &id, ret, err) < 0)
        return -1;
    if (!record_is_live(ret->state))
        return error_set(err, ERR_NOT_FOUND, "there is no volume '%s'", volume_id);
    return 0;
}

static int check_capabilities(const struct csi_validate_request *req, const struct record *r,
                              struct error *err)
{
    const char *fs = "";

    if (request_capabilities(&req->capabilities, &fs, err) < 0)
        return -1;
    bool raw = strcmp(r->fs, FS_KIND_NONE) == 0;
    if (fs[0] == '\0' ? !raw : strcmp(fs, r->fs) == 0)
        return 0;
    if (raw)
        return error_set(err, ERR_INVALID, "the volume is a raw block volume");
    if (strcmp(fs, FS_KIND_NONE) != 0)
        return error_set(err, ERR_INVALID, "the volume holds %s, not %s", r->fs, fs);
    return error_set(err, ERR_INVALID, "the volume holds a file system (%s): use it as a mount",
                     r->fs);
}

static int check_context(struct controller *c, struct arena *arena,
                         const struct csi_validate_request *req, const struct record *r,
                         struct error *err)
{
    const struct csi_map *map = &req->volume_context;
    struct param *items = arena_alloc(arena, (map->n + 1) * sizeof(*items));
    struct record_claim claim = { .id = req->volume_id };

    if (items == NULL)
        return error_set(err, ERR_EXHAUSTED, "out of memory for the volume context");
    for (size_t i = 0; i < map->n; i++)
        items[i] = (struct param){ .key = map->items[i].key, .value = map->items[i].value };
    volume_context_decode(items, map->n, &claim);
    claim.id = req->volume_id;
    return record_matches(r, &claim, err);
}

static int check_params(struct controller *c, struct arena *arena,
                        const struct csi_validate_request *req, const struct record *r,
                        struct error *err)
{
    struct volume_params p;
    struct volume_id id;
    bool has_tenant;

    if (req->mutable_parameters.n > 0)
        return error_set(err, ERR_INVALID, "mutable_parameters are not supported");
    if (req->parameters.n == 0)
        return 0;
    if (request_params(c, arena, &req->parameters, true, &p, &has_tenant, err) < 0 ||
        volume_id_parse(r->id, &id, err) < 0)
        return -1;
    if (strcmp(p.pool->name, id.pool) != 0)
        return error_set(err, ERR_INVALID, "the volume is in pool '%s'", id.pool);
    if (strcmp(p.kms, r->kms) != 0)
        return error_set(err, ERR_INVALID, "the volume's kms is '%s'", r->kms);
    if (strcmp(p.key_source, r->key_source) != 0)
        return error_set(err, ERR_INVALID, "the volume's keySource is '%s'", r->key_source);
    if (p.discard != r->discard)
        return error_set(err, ERR_INVALID, "the volume's discard is %s",
                         r->discard ? "true" : "false");
    if (p.pod != r->pod)
        return error_set(err, ERR_INVALID, "the volume's tenantIdentity is %s",
                         record_identity(r->pod));
    if (has_tenant && strcmp(p.tenant, r->tenant) != 0)
        return error_set(err, ERR_INVALID, "the volume's tenant is '%s'", r->tenant);
    return 0;
}

int controller_validate(void *ctx, struct csi_call *call, const struct csi_validate_request *req,
                        struct csi_validate_reply *ret, struct error *err)
{
    struct error why = ERROR_INIT;
    struct record r;

    if (peek(ctx, req->volume_id, &r, err) < 0)
        return -1;
    if (check_capabilities(req, &r, &why) == 0 &&
        check_context(ctx, call->arena, req, &r, &why) == 0 &&
        check_params(ctx, call->arena, req, &r, &why) == 0) {
        *ret = (struct csi_validate_reply){ .confirmed = true, .message = "" };
        return 0;
    }
    if (why.code == ERR_EXHAUSTED)
        return error_pass(err, &why);
    *ret = (struct csi_validate_reply){ .confirmed = false,
                                        .message = arena_strdup(call->arena, why.msg) };
    if (ret->message == NULL)
        return error_set(err, ERR_EXHAUSTED, "out of memory for the reply");
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * create.c: CreateVolume, keyed by name. Record `minting` (with the uuid) -> key -> space -> record
 * `new` (with the wrapped key). A repeated call goes on where the record says the last one stopped;
 * from `new` on it only answers: the key of an existing volume is never minted again. With
 * keySource client nothing is minted: uuid, commitment and the device that has the key come with
 * the request's secrets.
 */
#include "common/base.h"
#include "controller/controller.h"

#include "common/deadline.h"
#include "common/fault.h"
#include "common/leak.h"
#include "common/parse.h"
#include "keyd/client.h"
#include "volume/client_key.h"
#include "volume/fskind.h"
#include "volume/geometry.h"

#ifdef COFFER_LEAKY
#include <fcntl.h>
#include <unistd.h>
#endif

#define MINT_LIMIT_MS 30000

struct plan {
    const char *name;
    struct volume_params params;
    struct size_range size;
    const char *fs;
    struct pool *pool;
    struct volume_id id;
    bool client; /* keySource client: */
    struct client_key key;
};

/* ---- what is asked ---- */

/* After these the caller repeats the same call here. After any other it goes elsewhere or gives up,
 * and never calls DeleteVolume (facts: external-provisioner): what exists must go now. */
static bool caller_repeats(enum error_code code)
{
    return code == ERR_CANCELED || code == ERR_DEADLINE || code == ERR_UNAVAILABLE ||
           code == ERR_ABORTED;
}

/* -1, with a code after which he does. */
static int call_back(struct error *err)
{
    return caller_repeats(err->code) ? -1 : error_set(err, ERR_ABORTED, "%s", err->msg);
}

/* The secrets of any other volume are nobody's business. */
static int read_client_key(struct arena *arena, const struct csi_map *secrets, struct plan *p,
                           struct error *err)
{
    p->client = strcmp(p->params.key_source, KEY_SOURCE_CLIENT) == 0;
    if (!p->client)
        return 0;
    struct param *items = request_pairs(arena, secrets, 0, err);
    return items == NULL ? -1 : client_key_decode(items, secrets->n, &p->key, err);
}

static int check_refused(const struct csi_create_volume_request *req, struct error *err)
{
    if (strlen(req->name) > RECORD_NAME_MAX)
        return error_set(err, ERR_INVALID, "name is longer than %d bytes", RECORD_NAME_MAX);
    if (req->has_source)
        return error_set(err, ERR_INVALID,
                         "volume_content_source is not supported: volumes start empty");
    if (req->mutable_parameters.n > 0)
        return error_set(err, ERR_INVALID, "mutable_parameters are not supported: '%.64s'",
                         req->mutable_parameters.items[0].key);
    return 0;
}

static int check_topology(const struct controller *c, const struct csi_create_volume_request *req,
                          struct error *err)
{
    if (!req->has_topology || req->requisite.n == 0)
        return 0;
    for (size_t i = 0; i < req->requisite.n; i++) {
        if (request_topology_is_here(c, &req->requisite.items[i]))
            return 0;
    }
    return error_set(err, ERR_EXHAUSTED,
                     "the volume must be reachable from elsewhere: this pool is on node '%s' only",
                     c->node_id);
}

static int make_plan(struct controller *c, struct arena *arena,
                     const struct csi_create_volume_request *req, struct plan *ret,
                     struct error *err)
{
    struct plan p = { .name = req->name };

    if (check_refused(req, err) < 0 ||
        request_params(c, arena, &req->parameters, false, &p.params, NULL, err) < 0 ||
        read_client_key(arena, &req->secrets, &p, err) < 0 ||
        request_capabilities(&req->capabilities, &p.fs, err) < 0)
        return err->code == ERR_EXHAUSTED ? call_back(err) : -1; /* memory: nobody has looked */
    if (check_topology(c, req, err) < 0)
        return -1;
    if (p.fs[0] == '\0')
        p.fs = FS_KIND_DEFAULT;
    if (request_size(p.fs, req->has_range, req->required_bytes, req->limit_bytes, &p.size, err) < 0)
        return -1;
    if (p.params.pod && strcmp(p.fs, FS_KIND_NONE) == 0)
        return error_set(err, ERR_INVALID,
                         "parameter 'tenantIdentity' can't be pod for a raw block volume: "
                         "Kubernetes gives no token to those that publish one");
    p.pool = pool_set_find(c->pools, p.params.pool->name);
    if (p.pool == NULL)
        return error_set(err, ERR_INTERNAL, "pool '%s' was not opened", p.params.pool->name);
    if (pool_ready(p.pool, err) < 0)
        return call_back(err);
    (void)pool_watch(p.pool);
    volume_id_from_name(p.params.pool->name, p.pool->tag, p.name, &p.id);
    *ret = p;
    return 0;
}

/* ---- the name elsewhere ---- */

static int is_elsewhere(const struct pool *pool, struct error *err)
{
    return error_set(err, ERR_EXISTS, "pool '%s' has a volume of this name", pool->config->name);
}

/* Through a link or a second mount, or a copy. What is made under the one name has under the other
 * a record that can't be trusted: the repeated call would find that. */
static int is_same_pool(const struct pool *pool, const struct pool *other, struct error *err)
{
    return error_set(err, ERR_UNAVAILABLE,
                     "pools '%s' and '%s' are one, or one is a copy of the other (their pool.json "
                     "has one id): each volume would have two ids; take one of them out of the "
                     "configuration",
                     pool->config->name, other->config->name);
}

/* A create there that never ended, for parameters that nobody asks for any more: its place would
 * stay for ever, with its key. So would one whose removal was cut short: the repeated call goes on
 * with it, whatever failed. */
static int drop_unborn(struct controller *c, struct pool *pool, const struct volume_id *id,
                       struct error *err)
{
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error local = ERROR_INIT;
    struct record r;

    if (volume_open(pool, id, false, &v, &local) < 0 || pool->ops->read_record(&v, &r, &local) < 0)
        return local.code == ERR_NOT_FOUND ? 0 : error_pass(err, &local);
    if (record_is_live(r.state))
        return is_elsewhere(pool, err);
    return controller_erase(c, &v, &r, err) < 0 ? call_back(err) : 0;
}

static int check_other_pool(struct controller *c, const struct plan *p, struct pool *pool,
                            struct error *err)
{
    struct error local = ERROR_INIT;
    struct volume_id id;
    struct record r;

    if (pool_ready(pool, err) < 0)
        return error_prefix(err, "whether pool '%s' has a volume of this name can't be seen",
                            pool->config->name);
    if (strcmp(pool->tag, p->pool->tag) == 0)
        return is_same_pool(p->pool, pool, err);
    volume_id_from_name(pool->config->name, pool->tag, p->name, &id);
    if (pool->ops->peek_record(pool, &id, &r, &local) < 0)
        return local.code == ERR_NOT_FOUND ? 0 : error_pass(err, &local);
    return record_is_live(r.state) ? is_elsewhere(pool, err) : drop_unborn(c, pool, &id, err);
}

static int check_other_pools(struct controller *c, const struct plan *p, struct error *err)
{
    for (size_t i = 0; i < c->pools->n; i++) {
        if (c->pools->pools[i] != p->pool && check_other_pool(c, p, c->pools->pools[i], err) < 0)
            return -1;
    }
    return 0;
}

/* ---- the steps ---- */

static int set_identity(const struct plan *p, struct record *r, struct error *err)
{
    if (!p->client)
        return uuid_random(r->uuid) < 0
                   ? error_set(err, ERR_INTERNAL, "no random bytes for the uuid")
                   : 0;
    if (str_copy(r->uuid, sizeof(r->uuid), p->key.uuid) < 0 ||
        str_copy(r->recipients, sizeof(r->recipients), p->key.device) < 0)
        return error_set(err, ERR_INTERNAL, "the device's key doesn't fit into the record");
    return 0;
}

/* Also the retry of a record that is there: then only uuid, size and date are the earlier call's.
 */
static int write_minting(const struct plan *p, struct volume *v, struct record *ret,
                         struct error *err)
{
    struct record r = { .gen = 0, .size = p->size.want, .state = RECORD_MINTING };

    volume_id_format(&p->id, r.id);
    if (str_copy(r.name, sizeof(r.name), p->name) < 0 ||
        str_copy(r.tenant, sizeof(r.tenant), p->params.tenant) < 0 ||
        str_copy(r.fs, sizeof(r.fs), p->fs) < 0 ||
        str_copy(r.kms, sizeof(r.kms), p->params.kms) < 0 ||
        str_copy(r.key_source, sizeof(r.key_source), p->params.key_source) < 0)
        return error_set(err, ERR_INTERNAL, "a field doesn't fit into the record");
    if (set_identity(p, &r, err) < 0)
        return -1;
    r.discard = p->params.discard;
    r.pod = p->params.pod;
    record_now(r.created);
    if (v->pool->ops->write_record(v, &r, err) < 0)
        return -1;
    FAULT_POINT("controller:create:minting");
    *ret = r;
    return 0;
}

#ifdef COFFER_LEAKY
/* A controller that may also unwrap, and does. */
static void leak_minted(struct controller *c, const struct keyd_binding *b,
                        const struct keyd_wrapped *key)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        abort();
    if (keyd_unwrap(c->keyd_socket, b, key, KEYD_USE_STAGE, NULL, fds[1],
                    deadline_in(MINT_LIMIT_MS), NULL) == 0)
        LEAK_PIPE("controller:storage-key", fds[0]);
    (void)close(fds[0]);
    (void)close(fds[1]);
}
#endif

static int mint(struct controller *c, const struct csi_call *call, struct record *r,
                struct error *err)
{
    const struct keyd_binding b = {
        .kms = r->kms, .tenant = r->tenant, .volume_id = r->id, .uuid = r->uuid
    };
    uint64_t limit = deadline_in(MINT_LIMIT_MS);
    struct keyd_wrapped key;

    if (call->deadline < limit)
        limit = call->deadline;
    if (keyd_mint(c->keyd_socket, &b, limit, &key, err) < 0) {
        (void)atomic_fetch_add(&c->counters.mint_failed, 1);
        return error_prefix(err, "make the storage key");
    }
    if (str_copy(r->key.kind, sizeof(r->key.kind), key.kind) < 0 ||
        str_copy(r->key.ciphertext, sizeof(r->key.ciphertext), key.ciphertext) < 0)
        return error_set(err, ERR_INTERNAL, "the wrapped key doesn't fit into the record");
    r->key.version = key.version;
    LEAK_DO(leak_minted(c, &b, &key));
    FAULT_POINT("controller:create:minted");
    return 0;
}

static int finish(struct controller *c, const struct csi_call *call, const struct plan *p,
                  struct volume *v, struct record *r, struct error *err)
{
    if ((p->client ? record_commit(r, p->key.commitment, err) : mint(c, call, r, err)) < 0)
        return -1;
    if (v->pool->ops->allocate(v, r->size + GEOMETRY_DATA_OFFSET, err) < 0) {
        if (err->code == ERR_EXHAUSTED)
            (void)atomic_fetch_add(&c->counters.pool_full, 1);
        return -1;
    }
    FAULT_POINT("controller:create:allocated");
    r->state = RECORD_NEW;
    if (v->pool->ops->write_record(v, r, err) < 0)
        return -1;
    FAULT_POINT("controller:create:new");
    (void)atomic_fetch_add(&c->counters.created, 1);
    return 0;
}

/* ---- failing ---- */

/* The last write failed, and yet the record may say `new`: renamed, but not flushed. Then it is a
 * whole volume, which the repeated call answers for. */
static bool may_undo(struct volume *v)
{
    struct error local = ERROR_INIT;
    struct record now;

    if (v->pool->ops->read_record(v, &now, &local) < 0)
        return local.code == ERR_NOT_FOUND;
    return !record_is_live(now.state);
}

/* A key that is kept elsewhere goes by a request that may be carried out late, when its answer was
 * given up long ago. So the record says `erased` before: were it `minting`, the repeated call would
 * find the key still there, and the volume would lose it. */
static int undo(struct controller *c, struct volume *v, struct record *r, struct error *err)
{
    return r->uuid[0] != '\0' && controller_key_is_kept(c, r) ? controller_erase(c, v, r, err)
                                                              : v->pool->ops->remove(v, err);
}

/* Nobody was ever told of this volume: no record (then r has no uuid), or `minting`. */
static int roll_back(struct controller *c, struct volume *v, struct record *r, struct error *err)
{
    struct error local = ERROR_INIT;

    if (caller_repeats(err->code))
        return -1;
    if (!may_undo(v))
        return call_back(err);
    if (undo(c, v, r, &local) < 0)
        return error_set(err, ERR_ABORTED, "%.200s; then undoing the create failed: %.250s",
                         err->msg, local.msg);
    FAULT_POINT("controller:create:rolled-back");
    (void)atomic_fetch_add(&c->counters.create_rolled_back, 1);
    return -1;
}

/* What the request or the record says, not what this machine lacks: no repetition would change it,
 * and what is damaged is an administrator's to look at. */
static bool is_verdict(enum error_code code)
{
    return code == ERR_EXISTS || code == ERR_DATA_LOSS || code == ERR_PRECONDITION ||
           code == ERR_INVALID || code == ERR_OUT_OF_RANGE;
}

/* A place that was only begun goes here. What can't be looked at isn't gone. */
static bool nothing_is_left(const struct plan *p)
{
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error local = ERROR_INIT;
    struct record r;

    if (volume_open(p->pool, &p->id, false, &v, &local) < 0)
        return local.code == ERR_NOT_FOUND;
    return p->pool->ops->read_record(&v, &r, &local) < 0 && local.code == ERR_NOT_FOUND &&
           p->pool->ops->remove(&v, &local) == 0;
}

/* The caller mustn't go elsewhere while there is something of the volume here, be it an earlier
 * call's whose answer was lost: nobody would ever delete it. */
static int give_up(const struct plan *p, struct error *err)
{
    if (caller_repeats(err->code) || is_verdict(err->code) || nothing_is_left(p))
        return -1;
    return call_back(err);
}

/* ---- the volume that is there ---- */

static int check_compatible(const struct plan *p, const struct record *r, struct error *err)
{
    const char *differs = NULL;

    if (strcmp(r->name, p->name) != 0)
        differs = "name";
    else if (!request_size_fits(&p->size, r->size))
        differs = "size";
    else if (strcmp(r->fs, p->fs) != 0)
        differs = "file system or access type";
    else if (strcmp(r->kms, p->params.kms) != 0)
        differs = "kms";
    else if (strcmp(r->tenant, p->params.tenant) != 0)
        differs = "tenant";
    else if (strcmp(r->key_source, p->params.key_source) != 0)
        differs = "keySource";
    else if (r->discard != p->params.discard)
        differs = "discard";
    else if (r->pod != p->params.pod)
        differs = "tenantIdentity";
    else if (p->client && client_key_differs(&p->key, r, &differs, err) < 0)
        return -1;
    if (differs == NULL)
        return 0;
    return error_set(err, ERR_EXISTS, "a volume of this name exists with another %s", differs);
}

static int take_existing(struct controller *c, const struct csi_call *call, const struct plan *p,
                         struct volume *v, struct record *r, struct error *err)
{
    if (check_compatible(p, r, err) < 0)
        return -1;
    if (r->state == RECORD_MINTING)
        return finish(c, call, p, v, r, err) < 0 ? roll_back(c, v, r, err) : 0;
    (void)atomic_fetch_add(&c->counters.create_repeated, 1);
    return 0;
}

static int make_new(struct controller *c, const struct csi_call *call, const struct plan *p,
                    struct volume *v, struct record *ret, struct error *err)
{
    struct record r = { .uuid = "" };

    if (write_minting(p, v, &r, err) < 0 || finish(c, call, p, v, &r, err) < 0)
        return roll_back(c, v, &r, err);
    *ret = r;
    return 0;
}

/* It makes way for the one that is asked for: an erased one, and one that was begun with other
 * parameters and never came to be (nobody was told of it; no other call says that it exists). */
static int makes_way(const struct plan *p, const struct record *r, bool *ret, struct error *err)
{
    struct error local = ERROR_INIT;

    *ret = r->state == RECORD_ERASED;
    if (r->state != RECORD_MINTING || check_compatible(p, r, &local) == 0)
        return 0;
    *ret = local.code == ERR_EXISTS;
    return *ret ? 0 : error_pass(err, &local);
}

/* *ret_again: something of this name was in the way and is gone now, with its lock. */
static int create_once(struct controller *c, const struct csi_call *call, const struct plan *p,
                       struct record *ret, bool *ret_again, struct error *err)
{
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error local = ERROR_INIT;

    *ret_again = false;
    if (volume_open(p->pool, &p->id, true, &v, err) < 0)
        return -1;
    FAULT_POINT("controller:create:placed");
    if (p->pool->ops->read_record(&v, ret, &local) < 0)
        return local.code == ERR_NOT_FOUND ? make_new(c, call, p, &v, ret, err)
                                           : error_pass(err, &local);
    if (makes_way(p, ret, ret_again, err) < 0)
        return -1;
    return *ret_again ? controller_erase(c, &v, ret, err) : take_existing(c, call, p, &v, ret, err);
}

static int create_locked(struct controller *c, const struct csi_call *call, const struct plan *p,
                         struct record *ret, struct error *err)
{
    bool again;

    if (check_other_pools(c, p, err) < 0 || create_once(c, call, p, ret, &again, err) < 0)
        return -1;
    if (again && create_once(c, call, p, ret, &again, err) < 0)
        return -1;
    return again ? error_set(err, ERR_ABORTED, "another process deletes this volume") : 0;
}

static int create_and_reply(struct controller *c, struct csi_call *call, const struct plan *p,
                            struct csi_volume *ret, struct error *err)
{
    struct record_summary summary;
    struct csi_topologies topology;
    struct record r;

    if (create_locked(c, call, p, &r, err) < 0)
        return error_prefix(err, "create volume '%.64s'", p->name);
    summary = record_summary_of(&r);
    return reply_topology(c, call->arena, &topology, err) < 0
               ? -1
               : reply_volume(call->arena, r.id, &summary, &topology, ret, err);
}

int controller_create(void *ctx, struct csi_call *call, const struct csi_create_volume_request *req,
                      struct csi_volume *ret, struct error *err)
{
    AUTO_KEYLOCK struct keylock_hold *hold = NULL;
    struct controller *c = ctx;
    struct plan plan;

    if (make_plan(c, call->arena, req, &plan, err) < 0)
        return -1;
    if (request_lock(c, &plan.id, &hold, err) < 0 || create_and_reply(c, call, &plan, ret, err) < 0)
        return give_up(&plan, err);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/key_ring.h"

#include "cofferctl/key_scan.h"

int key_ring_init(struct key_ring *ring, struct error *err)
{
    *ring = (struct key_ring){ .gaps = json_array() };
    return ring->gaps == NULL ? error_memory(err) : 0;
}

void key_ring_release(struct key_ring *ring)
{
    for (size_t i = 0; i < ring->n; i++)
        free(ring->keys[i].versions);
    free(ring->keys);
    json_decref(ring->gaps);
    *ring = (struct key_ring){ .keys = NULL };
}

/* ---- keys ---- */

static bool is_key(const struct ring_key *k, const struct kms_config *kms, const char *name)
{
    return strcmp(k->kms->vault->mount, kms->vault->mount) == 0 && strcmp(k->name, name) == 0;
}

int key_ring_want_named(struct key_ring *ring, const struct kms_config *kms, const char *name,
                        struct ring_key **ret, struct error *err)
{
    struct ring_key made = { .kms = kms };

    for (size_t i = 0; i < ring->n; i++) {
        if (is_key(&ring->keys[i], kms, name)) {
            *ret = &ring->keys[i];
            return 0;
        }
    }
    struct ring_key *keys = reallocarray(ring->keys, ring->n + 1, sizeof(*keys));
    if (keys == NULL)
        return error_memory(err);
    ring->keys = keys;
    (void)snprintf(made.name, sizeof(made.name), "%s", name);
    keys[ring->n] = made;
    *ret = &keys[ring->n++];
    return 0;
}

int key_ring_want(struct key_ring *ring, const struct kms_config *kms, const char *tenant,
                  struct ring_key **ret, struct error *err)
{
    char name[KMS_KEY_NAME_SIZE];

    kms_key_name(kms->vault, tenant, name);
    return key_ring_want_named(ring, kms, name, ret, err);
}

static int count_version(struct ring_key *k, uint64_t version, struct error *err)
{
    size_t at = 0;

    while (at < k->n_versions && k->versions[at].version < version)
        at++;
    if (at < k->n_versions && k->versions[at].version == version) {
        k->versions[at].volumes++;
        return 0;
    }
    struct key_version *more = reallocarray(k->versions, k->n_versions + 1, sizeof(*more));
    if (more == NULL)
        return error_memory(err);
    memmove(&more[at + 1], &more[at], (k->n_versions - at) * sizeof(*more));
    more[at] = (struct key_version){ .version = version, .volumes = 1 };
    k->versions = more;
    k->n_versions++;
    return 0;
}

size_t ring_key_below(const struct ring_key *k, uint64_t version)
{
    size_t n = 0;

    for (size_t i = 0; i < k->n_versions && k->versions[i].version < version; i++)
        n += k->versions[i].volumes;
    return n;
}

/* ---- volumes ---- */

static int add_transit(struct key_ring *ring, const struct kms_config *kms, const struct record *r,
                       enum ring_create create, struct error *err)
{
    struct ring_key *k;

    if (key_ring_want(ring, kms, r->tenant, &k, err) < 0)
        return -1;
    if (r->state != RECORD_MINTING)
        return count_version(k, r->key.version, err);
    if (create == RING_IN_FLIGHT)
        k->in_flight++;
    else
        k->unfinished++;
    return 0;
}

static const char *const kinds[] = {
    [KMS_FILE] = "file",
    [KMS_VAULT_TRANSIT] = "transit",
    [KMS_VAULT_KV] = "kv",
};

static int add_unknown(struct key_ring *ring, const struct record *r, struct error *err)
{
    char problem[KMS_NAME_MAX + 160];

    (void)snprintf(problem, sizeof(problem),
                   "its key service '%s' is not in the configuration, or of another kind there",
                   r->kms);
    return key_scan_gap(ring->gaps, r->id, problem, err);
}

int key_ring_add(struct key_ring *ring, const struct config *c, const struct record *r,
                 enum ring_create create, struct error *err)
{
    const struct kms_config *kms = config_kms(c, r->kms);

    if (r->state == RECORD_ERASED) {
        ring->erased++;
        return 0;
    }
    if (record_is_client(r)) {
        ring->client++;
        return 0;
    }
    if (kms == NULL || (r->state != RECORD_MINTING && strcmp(r->key.kind, kinds[kms->kind]) != 0))
        return add_unknown(ring, r, err);
    if (kms->kind == KMS_VAULT_TRANSIT)
        return add_transit(ring, kms, r, create, err);
    *(kms->kind == KMS_FILE ? &ring->file : &ring->kv) += 1;
    return 0;
}

struct reading {
    struct key_ring *ring;
    const struct config *config;
};

/* Whoever makes a volume holds its lock from before the record is written until the key is in it.
 * So a `minting` record whose lock is free is one that no minted key will come to. */
static int add_minting(struct reading *g, struct pool *pool, const struct volume_id *id,
                       const struct record *r, struct error *err)
{
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error problem = ERROR_INIT;
    struct record now;

    if (volume_open(pool, id, false, &v, &problem) == 0 &&
        pool->ops->read_record(&v, &now, &problem) == 0)
        return key_ring_add(g->ring, g->config, &now, RING_UNFINISHED, err);
    if (problem.code == ERR_NOT_FOUND)
        return 0; /* undone meanwhile */
    if (problem.code == ERR_ABORTED)
        return key_ring_add(g->ring, g->config, r, RING_IN_FLIGHT, err);
    return key_scan_gap(g->ring->gaps, r->id, problem.msg, err);
}

static int add(void *ctx, struct pool *pool, const struct volume_id *id, const struct record *r,
               struct error *err)
{
    struct reading *g = ctx;

    if (r->state == RECORD_MINTING)
        return add_minting(g, pool, id, r, err);
    return key_ring_add(g->ring, g->config, r, RING_UNFINISHED, err);
}

int key_ring_read(struct key_ring *ring, const struct config *c, struct pool_set *set,
                  struct error *err)
{
    struct reading g = { .ring = ring, .config = c };

    return key_scan(set, ring->gaps, add, &g, err);
}

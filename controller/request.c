/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "controller/controller.h"

#include "volume/capability.h"
#include "volume/fskind.h"
#include "volume/geometry.h"

#include <strings.h>

#define SIZE_DEFAULT    GIB(1) /* the CSI caller named no size at all */
#define PARAM_TENANT    "tenant"
#define PARAM_NAMESPACE "csi.storage.k8s.io/pvc/namespace"
#define TENANT_STAND_IN "none" /* a valid name; never leaves request_params */

/* ---- size ---- */

static uint64_t round_up(uint64_t bytes)
{
    return (bytes + GEOMETRY_ROUND - 1) / GEOMETRY_ROUND * GEOMETRY_ROUND;
}

static uint64_t default_size(uint64_t limit)
{
    return limit == 0 || limit >= SIZE_DEFAULT ? SIZE_DEFAULT
                                               : limit / GEOMETRY_ROUND * GEOMETRY_ROUND;
}

/* Sizes below the smallest volume of all are rounded up to it, as the spec allows. A file system
 * with a minimum of its own is another matter: who asks for less than it can hold is told so,
 * since the volume would cost several times what he planned for. */
static int check_minimum(const struct fs_kind *kind, const struct size_range *r, struct error *err)
{
    if (r->want >= kind->size_min)
        return 0;
    return error_set(err, ERR_OUT_OF_RANGE,
                     "capacity_range: %s %llu is less than the smallest %s volume, %llu (%llu MiB)",
                     r->required != 0 ? "required_bytes" : "limit_bytes",
                     (unsigned long long)(r->required != 0 ? r->required : r->limit), kind->name,
                     (unsigned long long)kind->size_min,
                     (unsigned long long)(kind->size_min / MIB(1)));
}

int request_size(const char *fs, bool has_range, uint64_t required, uint64_t limit,
                 struct size_range *ret, struct error *err)
{
    const struct fs_kind *kind = fs_kind_find(fs);
    struct size_range r = { .required = has_range ? required : 0, .limit = has_range ? limit : 0 };

    if (kind == NULL)
        return error_set(err, ERR_INTERNAL, "file system '%.32s' has no row", fs);
    if (r.limit != 0 && r.limit < r.required)
        return error_set(err, ERR_OUT_OF_RANGE,
                         "capacity_range: limit_bytes %llu is less than required_bytes %llu",
                         (unsigned long long)r.limit, (unsigned long long)r.required);
    if (r.required > GEOMETRY_SIZE_MAX)
        return error_set(
            err, ERR_OUT_OF_RANGE,
            "capacity_range: required_bytes %llu is more than the largest volume, %llu",
            (unsigned long long)r.required, (unsigned long long)GEOMETRY_SIZE_MAX);
    r.want = r.required == 0 ? default_size(r.limit) : round_up(r.required);
    if (r.want < GEOMETRY_SIZE_MIN)
        r.want = GEOMETRY_SIZE_MIN;
    if (r.limit != 0 && r.want > r.limit)
        return error_set(err, ERR_OUT_OF_RANGE,
                         "capacity_range: limit_bytes %llu allows no volume: sizes are whole MiB, "
                         "at least %llu MiB",
                         (unsigned long long)r.limit,
                         (unsigned long long)(GEOMETRY_SIZE_MIN / MIB(1)));
    if (check_minimum(kind, &r, err) < 0)
        return -1;
    *ret = r;
    return 0;
}

bool request_size_fits(const struct size_range *range, uint64_t size)
{
    return size >= range->required && (range->limit == 0 || size <= range->limit);
}

/* ---- capabilities ---- */

/* *ret_fs: what the volume must hold; "" when a mount leaves it open. */
static int check_capability(const struct csi_capability *in, const char **ret_fs, struct error *err)
{
    const struct capability c = {
        .block = in->type == CSI_ACCESS_BLOCK,
        .mode = (unsigned)in->mode,
        .fs_type = in->fs_type,
        .mount_flags = in->mount_flags.items,
        .n_mount_flags = in->mount_flags.n,
        .mount_group = in->volume_mount_group,
    };

    if (in->type == CSI_ACCESS_NONE)
        return error_set(err, ERR_INVALID, "a volume capability has no access type");
    if (capability_check(&c, err) < 0)
        return -1;
    *ret_fs = !c.block && c.fs_type[0] == '\0' ? "" : capability_fs(&c);
    return 0;
}

int request_capabilities(const struct csi_capabilities *caps, const char **ret_fs,
                         struct error *err)
{
    const char *common = "", *fs = "";

    if (caps->n == 0)
        return error_set(err, ERR_INVALID, "volume_capabilities are missing");
    for (size_t i = 0; i < caps->n; i++) {
        if (check_capability(&caps->items[i], &fs, err) < 0)
            return -1;
        if (caps->items[i].type != caps->items[0].type)
            return error_set(err, ERR_INVALID,
                             "volume_capabilities mix block and mount: a volume is one of them");
        if (common[0] != '\0' && fs[0] != '\0' && strcmp(common, fs) != 0)
            return error_set(err, ERR_INVALID,
                             "volume_capabilities ask for %s and %s: a volume holds one of them",
                             common, fs);
        if (fs[0] != '\0')
            common = fs;
    }
    *ret_fs = common;
    return 0;
}

/* ---- parameters ---- */

struct param *request_pairs(struct arena *arena, const struct csi_map *map, size_t more,
                            struct error *err)
{
    struct param *items = arena_alloc(arena, (map->n + more + 1) * sizeof(*items));

    if (items == NULL)
        (void)error_set(err, ERR_EXHAUSTED, "out of memory for the request's pairs");
    for (size_t i = 0; items != NULL && i < map->n; i++)
        items[i] = (struct param){ .key = map->items[i].key, .value = map->items[i].value };
    return items;
}

int request_params(const struct controller *c, struct arena *arena, const struct csi_map *map,
                   bool tenant_optional, struct volume_params *ret, bool *ret_has_tenant,
                   struct error *err)
{
    struct param *items = request_pairs(arena, map, 1, err);
    bool has_tenant =
        csi_map_get(map, PARAM_TENANT) != NULL || csi_map_get(map, PARAM_NAMESPACE) != NULL;
    size_t n = map->n;

    if (items == NULL)
        return -1;
    if (tenant_optional && !has_tenant)
        items[n++] = (struct param){ .key = PARAM_TENANT, .value = TENANT_STAND_IN };
    if (volume_params_decode(c->config, items, n, ret, err) < 0)
        return -1;
    if (ret_has_tenant != NULL)
        *ret_has_tenant = has_tenant;
    return 0;
}

/* ---- topology ---- */

/* Keys are case-insensitive (CSI spec); a segment that isn't ours names a place we know nothing of.
 */
bool request_topology_is_here(const struct controller *c, const struct csi_topology *t)
{
    for (size_t i = 0; i < t->segments.n; i++) {
        const struct csi_pair *s = &t->segments.items[i];

        if (strcasecmp(s->key, c->topology_key) != 0 || strcmp(s->value, c->node_id) != 0)
            return false;
    }
    return t->segments.n > 0;
}

/* ---- lock ---- */

int request_lock(struct controller *c, const struct volume_id *id, struct keylock_hold **ret,
                 struct error *err)
{
    char text[VOLUME_ID_MAX + 1];

    if (keylock_try(c->locks, id->hash, ret, err) == 0)
        return 0;
    volume_id_format(id, text);
    return err->code == ERR_ABORTED
               ? error_set(err, ERR_ABORTED, "an operation on volume '%s' is under way", text)
               : -1;
}

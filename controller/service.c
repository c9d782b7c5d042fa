/* SPDX-License-Identifier: Apache-2.0 */
/* service.c: what coffer-controller says about itself, and the tables of what it does. */
#include "common/base.h"
#include "controller/controller.h"

int controller_set_names(struct controller *c, const char *driver_name, const char *node_id,
                         struct error *err)
{
    if (driver_names_check(driver_name, node_id, c->topology_key, err) < 0)
        return -1;
    c->driver_name = driver_name;
    c->node_id = node_id;
    return 0;
}

/* ---- Identity ---- */

static int get_plugin_info(void *ctx, struct csi_call *call, struct csi_plugin_info *ret,
                           struct error *err)
{
    const struct controller *c = ctx;

    *ret = (struct csi_plugin_info){ .name = c->driver_name, .vendor_version = COFFER_VERSION };
    return 0;
}

const struct csi_identity_ops controller_identity_ops = {
    .get_plugin_info = get_plugin_info,
    .get_plugin_capabilities = csi_driver_capabilities,
    .probe = csi_probe_ready,
};

/* ---- Controller ---- */

static int get_capabilities(void *ctx, struct csi_call *call, struct csi_controller_caps *ret,
                            struct error *err)
{
    const struct controller *c = ctx;

    *ret = (struct csi_controller_caps){ .create_delete = true,
                                         .list_volumes = true,
                                         .get_capacity = true,
                                         .expand = c->expand,
                                         .single_node_multi_writer = true };
    return 0;
}

const struct csi_controller_ops controller_ops = {
    .create_volume = controller_create,
    .delete_volume = controller_delete,
    .validate_capabilities = controller_validate,
    .list_volumes = controller_list,
    .get_capacity = controller_capacity,
    .get_capabilities = get_capabilities,
    .expand_volume = controller_expand,
};

/* ---- Node, as far as sidecars of the controller ask for it ---- */

static int node_get_capabilities(void *ctx, struct csi_call *call, struct csi_node_caps *ret,
                                 struct error *err)
{
    *ret = (struct csi_node_caps){ .stage_unstage = true,
                                   .get_volume_stats = true,
                                   .expand = true,
                                   .single_node_multi_writer = true };
    return 0;
}

static int node_get_info(void *ctx, struct csi_call *call, struct csi_node_info *ret,
                         struct error *err)
{
    const struct controller *c = ctx;
    struct csi_pair *segment = arena_alloc(call->arena, sizeof(*segment));

    if (segment == NULL)
        return error_set(err, ERR_EXHAUSTED, "out of memory for the reply");
    *segment = (struct csi_pair){ .key = c->topology_key, .value = c->node_id };
    *ret = (struct csi_node_info){ .node_id = c->node_id,
                                   .topology = { .segments = { .items = segment, .n = 1 } } };
    return 0;
}

const struct csi_node_ops controller_node_ops = {
    .get_capabilities = node_get_capabilities,
    .get_info = node_get_info,
};

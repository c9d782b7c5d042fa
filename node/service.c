/* SPDX-License-Identifier: Apache-2.0 */
/* service.c: the CSI services of coffer-node as tables. */
#include "common/base.h"
#include "node/node.h"

static int get_plugin_info(void *ctx, struct csi_call *call, struct csi_plugin_info *ret,
                           struct error *err)
{
    const struct node *node = ctx;

    *ret = (struct csi_plugin_info){ .name = node->driver_name, .vendor_version = COFFER_VERSION };
    return 0;
}

static int get_capabilities(void *ctx, struct csi_call *call, struct csi_node_caps *ret,
                            struct error *err)
{
    *ret = (struct csi_node_caps){ .stage_unstage = true,
                                   .get_volume_stats = true,
                                   .expand = true,
                                   .single_node_multi_writer = true };
    return 0;
}

static int get_info(void *ctx, struct csi_call *call, struct csi_node_info *ret, struct error *err)
{
    const struct node *node = ctx;
    struct csi_pair *segment = arena_alloc(call->arena, sizeof(*segment));

    if (segment == NULL)
        return error_set(err, ERR_EXHAUSTED, "out of memory for NodeGetInfo");
    *segment = (struct csi_pair){ .key = node->topology_key, .value = node->node_id };
    *ret = (struct csi_node_info){ .node_id = node->node_id,
                                   .topology = { .segments = { .items = segment, .n = 1 } } };
    return 0;
}

const struct csi_identity_ops node_identity_ops = {
    .get_plugin_info = get_plugin_info,
    .get_plugin_capabilities = csi_driver_capabilities,
    .probe = csi_probe_ready,
};

const struct csi_node_ops node_ops = {
    .stage_volume = node_stage_volume,
    .unstage_volume = node_unstage_volume,
    .publish_volume = node_publish_volume,
    .unpublish_volume = node_unpublish_volume,
    .get_volume_stats = node_get_volume_stats,
    .expand_volume = node_expand_volume,
    .get_capabilities = get_capabilities,
    .get_info = get_info,
};

const struct csi_admin_ops node_admin_ops = {
    .unlock_key = node_unlock_key,
    .rotate_key = node_rotate_key,
    .add_recipient = node_add_recipient,
    .remove_recipient = node_remove_recipient,
    .list_recipients = node_list_recipients,
    .describe_volumes = node_describe_volumes,
    .reconcile = node_reconcile,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * csi/api.h: CSI 1.12 as plain C. No gRPC or protobuf type crosses this header. The server decodes
 * and validates a request (validate.h), calls one op, encodes its reply. Requests and everything
 * they point to live in the call's arena until the op returns; replies allocate from `call->arena`
 * too. Strings are never NULL ("" when unset). Ops run on worker threads, many at once; those
 * marked `on_poller` in dispatch.c run on the server's one poller and must not block.
 */
#ifndef COFFER_CSI_API_H
#define COFFER_CSI_API_H

#include "common/arena.h"
#include "common/base.h"
#include "common/error.h"
#include "common/phases.h"

struct csi_call {
    struct arena *arena;
    uint64_t deadline; /* clock_ms() value; DEADLINE_NEVER when the client set none */
    /* the client went away; work goes on or stops cleanly */
    bool (*cancelled)(const struct csi_call *call);
    struct phases phases; /* ops add to it, for the log */
};

struct csi_pair {
    const char *key, *value;
};
/* The last duplicate has won; sorted by key. */
struct csi_map {
    const struct csi_pair *items;
    size_t n;
};
/* Borrowed; NULL: no such key. */
static inline const char *csi_map_get(const struct csi_map *map, const char *key)
{
    for (size_t i = 0; i < map->n; i++)
        if (strcmp(map->items[i].key, key) == 0)
            return map->items[i].value;
    return NULL;
}
struct csi_strings {
    const char *const *items;
    size_t n;
};

/* Numbers are the wire's. */
enum csi_access_mode {
    CSI_MODE_UNKNOWN = 0,
    CSI_SINGLE_NODE_WRITER = 1,
    CSI_SINGLE_NODE_READER_ONLY = 2,
    CSI_MULTI_NODE_READER_ONLY = 3,
    CSI_MULTI_NODE_SINGLE_WRITER = 4,
    CSI_MULTI_NODE_MULTI_WRITER = 5,
    CSI_SINGLE_NODE_SINGLE_WRITER = 6,
    CSI_SINGLE_NODE_MULTI_WRITER = 7,
};
enum csi_access_type { CSI_ACCESS_NONE, CSI_ACCESS_BLOCK, CSI_ACCESS_MOUNT };
struct csi_capability {
    enum csi_access_type type;
    enum csi_access_mode mode;
    const char *fs_type;
    struct csi_strings mount_flags;
    const char *volume_mount_group;
};
struct csi_capabilities {
    const struct csi_capability *items;
    size_t n;
};
struct csi_topology {
    struct csi_map segments;
};
struct csi_topologies {
    const struct csi_topology *items;
    size_t n;
};

struct csi_volume {
    uint64_t capacity_bytes;
    const char *volume_id;
    struct csi_map volume_context;
    struct csi_topologies accessible_topology;
};

/* ---- Identity ---- */
struct csi_plugin_info {
    const char *name, *vendor_version;
};
struct csi_plugin_caps {
    bool controller_service, accessibility_constraints, online_expansion;
};
struct csi_identity_ops {
    int (*get_plugin_info)(void *ctx, struct csi_call *, struct csi_plugin_info *ret,
                           struct error *);
    int (*get_plugin_capabilities)(void *ctx, struct csi_call *, struct csi_plugin_caps *ret,
                                   struct error *);
    int (*probe)(void *ctx, struct csi_call *, bool *ret_ready, struct error *);
};
/* What both plugins say: they are parts of one driver. */
static inline int csi_driver_capabilities(void *ctx UNUSED, struct csi_call *call UNUSED,
                                          struct csi_plugin_caps *ret, struct error *err UNUSED)
{
    *ret = (struct csi_plugin_caps){ .controller_service = true,
                                     .accessibility_constraints = true,
                                     .online_expansion = true };
    return 0;
}
/* Speaks of this process alone: a pool or a key service that is away must not get it restarted. */
static inline int csi_probe_ready(void *ctx UNUSED, struct csi_call *call UNUSED, bool *ret_ready,
                                  struct error *err UNUSED)
{
    *ret_ready = true;
    return 0;
}

/* ---- Controller ---- */
struct csi_create_volume_request {
    const char *name;
    bool has_range;
    uint64_t required_bytes, limit_bytes; /* 0 = not given */
    struct csi_capabilities capabilities;
    struct csi_map parameters, secrets, mutable_parameters;
    bool has_source; /* snapshot or volume: not supported yet */
    bool has_topology;
    struct csi_topologies requisite, preferred;
};
struct csi_delete_volume_request {
    const char *volume_id;
    struct csi_map secrets;
};
struct csi_validate_request {
    const char *volume_id;
    struct csi_map volume_context, parameters, mutable_parameters, secrets;
    struct csi_capabilities capabilities;
};
struct csi_validate_reply {
    bool confirmed; /* the server repeats the request; not with mutable_parameters */
    const char *message;
};
struct csi_list_request {
    uint64_t max_entries;
    const char *starting_token;
};
struct csi_list_reply {
    const struct csi_volume *items;
    size_t n;
    const char *next_token;
};
struct csi_capacity_request {
    struct csi_capabilities capabilities;
    struct csi_map parameters;
    bool has_topology;
    struct csi_topology topology;
};
struct csi_capacity_reply {
    uint64_t available;
    uint64_t minimum_volume_size, maximum_volume_size; /* 0 = unset */
};
struct csi_controller_caps {
    bool create_delete, list_volumes, get_capacity, expand, single_node_multi_writer;
};
struct csi_expand_request {
    const char *volume_id, *volume_path, *staging_target_path; /* paths: node only */
    uint64_t required_bytes, limit_bytes;
    bool has_range, has_capability;
    struct csi_capability capability;
    struct csi_map secrets;
};
struct csi_controller_expand_reply {
    uint64_t capacity_bytes;
    bool node_expansion_required;
};
struct csi_controller_ops {
    int (*create_volume)(void *ctx, struct csi_call *, const struct csi_create_volume_request *,
                         struct csi_volume *ret, struct error *);
    int (*delete_volume)(void *ctx, struct csi_call *, const struct csi_delete_volume_request *,
                         struct error *);
    int (*validate_capabilities)(void *ctx, struct csi_call *, const struct csi_validate_request *,
                                 struct csi_validate_reply *ret, struct error *);
    int (*list_volumes)(void *ctx, struct csi_call *, const struct csi_list_request *,
                        struct csi_list_reply *ret, struct error *);
    int (*get_capacity)(void *ctx, struct csi_call *, const struct csi_capacity_request *,
                        struct csi_capacity_reply *ret, struct error *);
    int (*get_capabilities)(void *ctx, struct csi_call *, struct csi_controller_caps *ret,
                            struct error *);
    int (*expand_volume)(void *ctx, struct csi_call *, const struct csi_expand_request *,
                         struct csi_controller_expand_reply *ret, struct error *);
};

/* ---- Node ---- */
struct csi_stage_request {
    const char *volume_id, *staging_target_path;
    struct csi_map publish_context, volume_context, secrets;
    struct csi_capability capability;
};
struct csi_unstage_request {
    const char *volume_id, *staging_target_path;
};
struct csi_publish_request {
    const char *volume_id, *staging_target_path, *target_path;
    struct csi_map publish_context, volume_context, secrets;
    struct csi_capability capability;
    bool readonly;
};
struct csi_unpublish_request {
    const char *volume_id, *target_path;
};
struct csi_stats_request {
    const char *volume_id, *volume_path, *staging_target_path;
};
struct csi_usage {
    uint64_t available, total, used;
    int unit; /* 1 bytes, 2 inodes */
};
struct csi_stats_reply {
    struct csi_usage usage[2];
    size_t n;
};
struct csi_node_caps {
    bool stage_unstage, get_volume_stats, expand, single_node_multi_writer;
};
struct csi_node_info {
    const char *node_id;
    uint64_t max_volumes;
    struct csi_topology topology;
};
struct csi_node_expand_reply {
    uint64_t capacity_bytes;
};
struct csi_node_ops {
    int (*stage_volume)(void *ctx, struct csi_call *, const struct csi_stage_request *,
                        struct error *);
    int (*unstage_volume)(void *ctx, struct csi_call *, const struct csi_unstage_request *,
                          struct error *);
    int (*publish_volume)(void *ctx, struct csi_call *, const struct csi_publish_request *,
                          struct error *);
    int (*unpublish_volume)(void *ctx, struct csi_call *, const struct csi_unpublish_request *,
                            struct error *);
    int (*get_volume_stats)(void *ctx, struct csi_call *, const struct csi_stats_request *,
                            struct csi_stats_reply *ret, struct error *);
    int (*expand_volume)(void *ctx, struct csi_call *, const struct csi_expand_request *,
                         struct csi_node_expand_reply *ret, struct error *);
    int (*get_capabilities)(void *ctx, struct csi_call *, struct csi_node_caps *ret,
                            struct error *);
    int (*get_info)(void *ctx, struct csi_call *, struct csi_node_info *ret, struct error *);
};

/* ---- coffer.v1.NodeAdmin (admin.sock) ---- */
struct csi_unlock_key_request {
    const char *volume_id;
    uint64_t output_pid,
        output_fd; /* /proc/<pid>/fd/<fd>: where coffer-crypt writes; this process never reads it */
    const char *reason; /* for the audit line; required */
};
struct csi_rotate_key_request {
    const char *volume_id;
    const char *reason; /* for the audit line; "" */
    struct csi_map secrets, new_secrets;
};
struct csi_rotate_key_reply { /* see coffer_admin.proto */
    bool resumed;
    uint64_t key_version;
};
struct csi_add_recipient_request {
    const char *volume_id, *algorithm, *label, *reason;
    const char *public_key, *wrapped; /* base64 */
    struct csi_map secrets;
};
struct csi_recipient { /* see coffer_admin.proto; public_key and wrapped in base64 */
    const char *fingerprint, *algorithm, *label, *public_key, *wrapped;
};
struct csi_add_recipient_reply {
    bool already;
    struct csi_recipient recipient;
};
struct csi_remove_recipient_request {
    const char *volume_id, *fingerprint, *reason;
    struct csi_map secrets, new_secrets;
};
struct csi_list_recipients_request {
    const char *volume_id;
    struct csi_map secrets;
};
struct csi_list_recipients_reply {
    const struct csi_recipient *items;
    size_t n;
};
struct csi_describe_request { /* see coffer_admin.proto */
    const char *name, *name_prefix, *starting_token, *pool;
    uint64_t max_entries;
};
struct csi_description {
    const char *volume_id, *name, *uuid, *tenant, *kms, *key_source, *commitment, *state, *fs,
        *problem;
    uint64_t size;
    bool open;
    struct csi_strings mounted_at;
    const struct csi_recipient *recipients;
    size_t n_recipients;
};
struct csi_describe_reply {
    const struct csi_description *items;
    size_t n;
    const char *next_token;
    struct csi_map pool_tags;
};
struct csi_reconcile_request {
    bool dry_run;
};
struct csi_left_over { /* see coffer_admin.proto */
    const char *kind, *what, *volume_id, *why, *action, *result, *problem;
};
struct csi_reconcile_reply {
    const struct csi_left_over *items;
    size_t n;
    bool truncated;
};
struct csi_admin_ops {
    int (*unlock_key)(void *ctx, struct csi_call *, const struct csi_unlock_key_request *,
                      struct error *);
    int (*rotate_key)(void *ctx, struct csi_call *, const struct csi_rotate_key_request *,
                      struct csi_rotate_key_reply *ret, struct error *);
    int (*add_recipient)(void *ctx, struct csi_call *, const struct csi_add_recipient_request *,
                         struct csi_add_recipient_reply *ret, struct error *);
    int (*remove_recipient)(void *ctx, struct csi_call *,
                            const struct csi_remove_recipient_request *,
                            struct csi_rotate_key_reply *ret, struct error *);
    int (*list_recipients)(void *ctx, struct csi_call *, const struct csi_list_recipients_request *,
                           struct csi_list_recipients_reply *ret, struct error *);
    int (*describe_volumes)(void *ctx, struct csi_call *, const struct csi_describe_request *,
                            struct csi_describe_reply *ret, struct error *);
    int (*reconcile)(void *ctx, struct csi_call *, const struct csi_reconcile_request *,
                     struct csi_reconcile_reply *ret, struct error *);
};

/* ---- pluginregistration.Registration (kubelet finds us by it) ---- */
struct csi_registration_info { /* see plugin_registration.proto */
    const char *type, *name, *endpoint;
    struct csi_strings versions;
};
struct csi_registration_status {
    bool registered;
    const char *error;
};
struct csi_registration_ops {
    int (*get_info)(void *ctx, struct csi_call *, struct csi_registration_info *ret,
                    struct error *);
    int (*notify)(void *ctx, struct csi_call *, const struct csi_registration_status *,
                  struct error *);
};

/* What one server offers; NULL tables answer UNIMPLEMENTED. */
struct csi_service {
    const struct csi_identity_ops *identity;
    const struct csi_controller_ops *controller;
    const struct csi_node_ops *node;
    const struct csi_admin_ops *admin;
    const struct csi_registration_ops *registration;
    void *ctx;
};

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec.h: between protobuf-c's structs and api.h's. For each method `decode_X` turns the unpacked
 * message into the op's request and refuses what the spec calls missing or malformed (ERR_INVALID
 * naming the field, before anybody looks whether a volume exists), and `run_X` calls the op and
 * builds the reply message. Everything is allocated from the call's arena; requests point into the
 * unpacked message. Thread-safe.
 */
#ifndef COFFER_CSI_CODEC_H
#define COFFER_CSI_CODEC_H

#include "common/arena.h"
#include "common/base.h"
#include "common/error.h"
#include "csi/api.h"

#include "coffer_admin.pb-c.h"
#include "csi.pb-c.h"

typedef int codec_decode(struct arena *a, const ProtobufCMessage *msg, const void **ret,
                         struct error *err);
typedef int codec_run(const struct csi_service *s, struct csi_call *call, const void *request,
                      ProtobufCMessage **ret, struct error *err);

codec_run run_get_plugin_info, run_get_plugin_capabilities, run_probe;

codec_decode decode_create_volume, decode_delete_volume, decode_validate, decode_list_volumes,
    decode_get_capacity, decode_controller_expand;
codec_run run_create_volume, run_delete_volume, run_validate, run_list_volumes, run_get_capacity,
    run_controller_get_capabilities, run_controller_expand;

codec_decode decode_stage, decode_unstage, decode_publish, decode_unpublish, decode_stats,
    decode_node_expand;
codec_run run_stage, run_unstage, run_publish, run_unpublish, run_stats, run_node_expand,
    run_node_get_capabilities, run_node_get_info;

codec_decode decode_unlock_key, decode_rotate_key, decode_reconcile;
codec_decode decode_add_recipient, decode_remove_recipient, decode_list_recipients;
codec_run run_unlock_key, run_rotate_key, run_reconcile;
codec_run run_add_recipient, run_remove_recipient, run_list_recipients;
codec_decode decode_describe;
codec_run run_describe;

codec_decode decode_registration_status;
codec_run run_registration_info, run_registration_status;

/* ---- shared by the codecs ---- */

/* A message of that type with its defaults; NULL with ERR_EXHAUSTED over the arena's limit. */
void *codec_new(struct arena *a, const ProtobufCMessageDescriptor *desc, struct error *err);
void *codec_alloc(struct arena *a, size_t n, size_t size,
                  struct error *err); /* zeroed array; never NULL for n = 0 */
int codec_require(const char *field, const char *value, struct error *err) MUST_CHECK;
int64_t codec_int64(uint64_t value); /* values over INT64_MAX become INT64_MAX */
char *
codec_string(const char *text); /* protobuf-c's fields are not const; packing only reads them */

/* entries: a protobuf-c array of any map<string, string> entry type. */
int decode_map(struct arena *a, const void *entries, size_t n, struct csi_map *ret,
               struct error *err) MUST_CHECK;
int decode_range(const Csi__V1__CapacityRange *range, bool *ret_has, uint64_t *ret_required,
                 uint64_t *ret_limit, struct error *err) MUST_CHECK;
int decode_capability(const Csi__V1__VolumeCapability *m, const char *field,
                      struct csi_capability *ret, struct error *err) MUST_CHECK;
int decode_capabilities(struct arena *a, Csi__V1__VolumeCapability *const *m, size_t n,
                        struct csi_capabilities *ret, struct error *err) MUST_CHECK;
int decode_topology(struct arena *a, const Csi__V1__Topology *m, struct csi_topology *ret,
                    struct error *err) MUST_CHECK;
int decode_topologies(struct arena *a, Csi__V1__Topology *const *m, size_t n,
                      struct csi_topologies *ret, struct error *err) MUST_CHECK;

/* *ret: an array of messages of type `entry`, to be assigned to a protobuf-c map field. */
int encode_map(struct arena *a, const ProtobufCMessageDescriptor *entry, const struct csi_map *map,
               size_t *ret_n, void **ret, struct error *err) MUST_CHECK;
Coffer__V1__Recipient *encode_recipient(struct arena *a, const struct csi_recipient *r,
                                        struct error *err); /* NULL: error */
int encode_topology(struct arena *a, const struct csi_topology *t, Csi__V1__Topology **ret,
                    struct error *err) MUST_CHECK;
int encode_volume(struct arena *a, const struct csi_volume *v, Csi__V1__Volume **ret,
                  struct error *err) MUST_CHECK;
int encode_capabilities(struct arena *a, const struct csi_capabilities *c, size_t *ret_n,
                        Csi__V1__VolumeCapability ***ret, struct error *err) MUST_CHECK;

#endif

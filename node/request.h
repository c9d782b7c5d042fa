/* SPDX-License-Identifier: Apache-2.0 */
/* node/request.h: what several node calls check of a request before they touch anything. */
#ifndef COFFER_NODE_REQUEST_H
#define COFFER_NODE_REQUEST_H

#include "node/op.h"
#include "volume/capability.h"
#include "volume/recipients.h"

/* How a request wants to use a volume: its checked capability. */
struct usage {
    bool block;
    bool read_only;     /* a reader-only access mode, or the mount flag "ro" */
    bool single_target; /* SINGLE_NODE_SINGLE_WRITER: one target path on the node */
    const char *fs;     /* as the record says it; of a mount that names none, the default */
    struct capability_mount mount;
};
int request_usage(const struct csi_capability *in, struct usage *ret, struct error *err) MUST_CHECK;
/* Absolute, without "." or ".." parts, no doubled slash: it is compared with mountinfo.
 * ERR_INVALID. */
int request_path(const char *path, const char *field, struct error *err) MUST_CHECK;
/* Id and volume_context against the record: ERR_INVALID when the context lacks a field,
 * ERR_DATA_LOSS on a difference. */
int request_claim(const struct node_op *op, const struct csi_map *context,
                  struct error *err) MUST_CHECK;
/* ERR_DATA_LOSS when the context and the record don't agree about who opens the volume; a context
 * without any field of ours says nothing. */
int request_same_identity(const struct node_op *op, const struct csi_map *context,
                          struct error *err) MUST_CHECK;
/* token.c: the pod's service account token for Vault, from the secrets or (clusters before 1.35)
 * the volume_context; *ret is in the arena. None: *ret NULL. ERR_INVALID: it can't be read. */
int request_token(struct arena *arena, const struct csi_publish_request *req, const char **ret,
                  struct error *err) MUST_CHECK;
/* session.c: what a user's device lends the volume's key with, into op->session; it is in the
 * arena. None: that is looked at when it is needed. Of another volume the secrets aren't looked at.
 * ERR_INVALID: it is malformed; ERR_PRECONDITION: a part of it is missing. */
int request_session(struct node_op *op, struct arena *arena, const struct csi_map *secrets,
                    struct error *err) MUST_CHECK;
/* Another key for such a volume, made by a device of its user's (NodeAdmin's new_secrets). */
struct new_key {
    bool given;
    struct keyd_session session; /* lends it; with its commitment */
    const char *forms;           /* wrapped for those who stay: volume/forms.h's text */
};
/* Into the arena. None: not given. ERR_INVALID: it is malformed, a part of it is missing, or it is
 * of another volume; ERR_PRECONDITION: a part of the session is missing. */
int request_new_key(const struct node_op *op, struct arena *arena, const struct csi_map *secrets,
                    struct new_key *ret, struct error *err) MUST_CHECK;
/* A volume whose key a device lends is to be opened now. ERR_PRECONDITION: no session came;
 * ERR_INVALID: it is of a device that the volume doesn't have. */
int request_need_session(const struct node_op *op, struct error *err) MUST_CHECK;
/* ERR_PRECONDITION when the capability (that `use` was made of) wants another file system than the
 * volume was created with. A mount that names none takes what there is: then `use` is made anew,
 * since which mount flags there are depends on it. */
int request_same_fs(const struct node_op *op, const struct csi_capability *in, struct usage *use,
                    struct error *err) MUST_CHECK;

#endif

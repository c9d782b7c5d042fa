/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/recipient.h: what the verbs of the group `recipient` share: one call of the node's
 * admin socket, and how a recipient is shown. No
 * key but public ones comes near this process; a session of a user's device, which is as good as
 * one, passes through (host_secrets.h).
 */
#ifndef COFFER_COFFERCTL_RECIPIENT_H
#define COFFER_COFFERCTL_RECIPIENT_H

#include "cofferctl/cli.h"
#include "recipient/publickey.h"

/* Calls coffer.v1.NodeAdmin/<method>. request: the caller's; NULL is a --reason or --label that is
 * no UTF-8. *ret is the caller's. */
int recipient_call(const char *admin_socket, const char *method, const char *volume_id,
                   json_t *request, json_t **ret, struct error *err) MUST_CHECK;

/* The node's Recipient message with all its names: fingerprint, algorithm, label, thumbprint
 * (RFC 7638), for RSA arcs_fingerprint, public_key and wrapped. ERR_UNAVAILABLE when the key isn't
 * the one of its fingerprint. The caller's. */
int recipient_view(json_t *message, json_t **ret, struct error *err) MUST_CHECK;

extern const struct output_column recipient_columns[];
extern const size_t recipient_n_columns;

/* One key from a file in PEM or DER, of at most PUBLIC_KEY_MAX bytes. */
int recipient_key_load(const char *path, struct public_key **ret, struct error *err) MUST_CHECK;

#endif

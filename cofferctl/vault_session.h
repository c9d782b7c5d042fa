/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/vault_session.h: Vault asked one question after the other, each to its end. The loop of
 * vault/client.h runs inside. A token that a login got is revoked at the end; one that was given
 * stays. One thread.
 */
#ifndef COFFER_COFFERCTL_VAULT_SESSION_H
#define COFFER_COFFERCTL_VAULT_SESSION_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "common/json.h"
#include "vault/client.h"

struct vault_session; /* opaque */

/* Sends nothing. */
int vault_session_open(const struct vault_options *o, struct vault_session **ret,
                       struct error *err) MUST_CHECK;
void vault_session_close(struct vault_session *s);

/* *ret: the whole answer, NULL when it is empty; the caller frees. ERR_NOT_FOUND: Vault says 404.
 */
int vault_session_get(struct vault_session *s, const char *path, json_t **ret,
                      struct error *err) MUST_CHECK;
/* GET: *ret is the answer's "data", an object; NULL when there is nothing at this path. */
int vault_session_read(struct vault_session *s, const char *path, json_t **ret,
                       struct error *err) MUST_CHECK;
int vault_session_write(struct vault_session *s, const char *path, const json_t *body,
                        struct error *err) MUST_CHECK;
/* POST; wrap_ttl_s not 0: *ret has "wrap_info" instead of the result. */
int vault_session_post(struct vault_session *s, const char *path, const json_t *body,
                       unsigned wrap_ttl_s, json_t **ret, struct error *err) MUST_CHECK;
/* As GET and POST above, in a run that may outlast a token: refused once, it logs in again. body
 * NULL: GET. */
int vault_session_call(struct vault_session *s, const char *path, const json_t *body, json_t **ret,
                       struct error *err) MUST_CHECK;
/* Waits; the token is kept fresh meanwhile. */
int vault_session_pause(struct vault_session *s, uint64_t ms, struct error *err) MUST_CHECK;
/* GET without a token; *ret: the whole answer. */
int vault_session_anonymous(struct vault_session *s, const char *path, json_t **ret,
                            struct error *err) MUST_CHECK;

DEFINE_AUTO(vault_session, vault_session_close)
#define AUTO_VAULT_SESSION __attribute__((cleanup(cleanup_vault_session)))

#endif

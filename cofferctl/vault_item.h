/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/vault_item.h: one thing that Vault must have: a mounted engine, a login method, a
 * policy, settings (of a mount, of a role), or the RSA key of the server. It is compared with what
 * the server has, and made so; what is right already is left alone. One thread.
 */
#ifndef COFFER_COFFERCTL_VAULT_ITEM_H
#define COFFER_COFFERCTL_VAULT_ITEM_H

#include "cofferctl/vault_session.h"
#include "common/base.h"
#include "common/error.h"
#include "common/strbuf.h"

#define VAULT_DIFF_MAX KIB(256)

enum vault_item_kind {
    ITEM_ENGINE,
    ITEM_LOGIN,
    ITEM_POLICY,
    ITEM_SETTINGS,
    ITEM_ROLE,
    ITEM_SERVER_KEY
};

enum vault_item_state {
    ITEM_SAME,
    ITEM_MISSING,
    ITEM_DIFFERS,
    ITEM_CONFLICT, /* it can't be made so: something else is there, or it isn't ours to set */
};

struct vault_item {
    enum vault_item_kind kind;
    char path[VAULT_PATH_MAX + 1]; /* "transit", "approle", "coffer-node", "transit/config/keys" */
    char needs[160];               /* settings: the mount they are of, as in sys/mounts, with
                                      "auth/" in front for a login method; "": none */
    json_t *wanted;      /* {"type", "options", "description"}, {"policy"}, or the settings; of a
                            server key how it is made */
    const char *by_hand; /* settings that only somebody who knows can make: what to type */
};

struct vault_server { /* what is mounted, read once and after each change */
    struct vault_session *session;
    json_t *engines, *logins; /* "transit/" -> {"type", ...} */
};

int vault_server_read(struct vault_server *s, struct error *err) MUST_CHECK;
void vault_server_release(struct vault_server *s);
/* Of the login method at "kubernetes"; "": it isn't there. Borrowed. */
const char *vault_server_accessor(const struct vault_server *s, const char *login);

/* "engine transit/", "login method auth/approle/", "policy coffer-node", "settings transit/...",
 * "role auth/...", "server key transit/keys/..."
 */
void vault_item_name(const struct vault_item *item, struct strbuf *ret);

/* present: what the server has, NULL: nothing. Adds what differs to *diff, as lines. Pure. */
enum vault_item_state vault_item_compare(const struct vault_item *item, const json_t *present,
                                         struct strbuf *diff);
/* The same with what the server says now. */
int vault_item_look(const struct vault_server *s, const struct vault_item *item,
                    enum vault_item_state *ret, struct strbuf *diff, struct error *err) MUST_CHECK;
/* For ITEM_MISSING and ITEM_DIFFERS. */
int vault_item_make(struct vault_server *s, const struct vault_item *item,
                    struct error *err) MUST_CHECK;

#endif

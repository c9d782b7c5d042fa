/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault/status.h: what each HTTP status of Vault's API (HashiCorp Vault, OpenBao) means for a
 * caller, as a table. Source: the API's "HTTP status codes" and sys/health pages, and what real
 * servers answered. Pure.
 */
#ifndef COFFER_VAULT_STATUS_H
#define COFFER_VAULT_STATUS_H

#include "common/base.h"
#include "common/error.h"

enum vault_action {
    VAULT_TAKE,     /* a result */
    VAULT_REFUSED,  /* final: the same request will be refused again */
    VAULT_LOGIN,    /* the token may be at fault: log in once, then it is final */
    VAULT_REDIRECT, /* to the active node: once, and only to an address we know */
    VAULT_AGAIN,    /* the same address, after a pause */
    VAULT_NEXT,     /* the next address, after a pause */
};

struct vault_status {
    long first, last;
    enum vault_action action;
    enum error_code code; /* when that is the end of it */
    const char *meaning;
};

/* Never NULL: what isn't in the table is a server that we don't understand. */
const struct vault_status *vault_status_of(long status);

#define VAULT_REASON_NO_KEY  "the key doesn't exist"
#define VAULT_REASON_TOO_OLD "the key version is older than the key still allows"
#define VAULT_REASON_FOREIGN "the ciphertext doesn't belong to this context and key"
#define VAULT_REASON_EXISTS  "there is something at this path already"
#define VAULT_REASON_NO_FORM "that is no ciphertext"
#define VAULT_REASON_SEALED  "that was not encrypted for this key, or it was changed"
#define VAULT_REASON_LOGIN   "role id or secret id is wrong or used up"
#define VAULT_REASON_UPGRADE "the engine there was just made, and isn't ready yet" /* in a 400 */

/* Our own words for the server's "errors", or "": its text is never shown, since whoever answers
 * may have put in it what we sent. `body` is NUL-terminated. */
const char *vault_reason_of(const char *body);

#endif

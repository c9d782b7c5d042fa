/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "vault/status.h"

static const struct vault_status statuses[] = {
    { 200, 204, VAULT_TAKE, ERR_OK, "" },
    { 307, 308, VAULT_REDIRECT, ERR_UNAVAILABLE, "it points to another server" },
    { 400, 400, VAULT_REFUSED, ERR_PRECONDITION, "it refuses the request" },
    { 403, 403, VAULT_LOGIN, ERR_PERMISSION, "it denies permission" },
    { 404, 404, VAULT_REFUSED, ERR_PRECONDITION, "there is nothing at this path, or it is hidden" },
    { 405, 405, VAULT_REFUSED, ERR_PRECONDITION, "the path doesn't take this operation" },
    { 412, 412, VAULT_AGAIN, ERR_UNAVAILABLE, "the server doesn't have our last write yet" },
    { 429, 429, VAULT_AGAIN, ERR_UNAVAILABLE, "it limits the rate of requests" },
    { 472, 472, VAULT_NEXT, ERR_UNAVAILABLE, "the server is a disaster-recovery secondary" },
    { 473, 473, VAULT_NEXT, ERR_UNAVAILABLE, "the server is a performance standby" },
    { 474, 474, VAULT_NEXT, ERR_UNAVAILABLE, "the standby can't reach the active server" },
    { 501, 501, VAULT_NEXT, ERR_UNAVAILABLE, "the server is not initialised" },
    { 502, 502, VAULT_AGAIN, ERR_UNAVAILABLE, "something that the server needs doesn't answer" },
    { 503, 503, VAULT_NEXT, ERR_UNAVAILABLE, "the server is sealed or under maintenance" },
    { 530, 530, VAULT_NEXT, ERR_UNAVAILABLE, "the server was removed from its cluster" },
    { 500, 599, VAULT_AGAIN, ERR_UNAVAILABLE, "the server has an internal error" },
};

static const struct vault_status unknown = { 0, 0, VAULT_NEXT, ERR_UNAVAILABLE,
                                             "it answers what no Vault answers" };

const struct vault_status *vault_status_of(long status)
{
    for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
        if (status >= statuses[i].first && status <= statuses[i].last)
            return &statuses[i];
    }
    return &unknown;
}

static const struct reason {
    const char *theirs, *ours;
} reasons[] = {
    { "message authentication failed", VAULT_REASON_FOREIGN },
    { "missing 'context'", "the key is derived and wants a context" },
    { "disallowed by policy (too old)", VAULT_REASON_TOO_OLD },
    { "disallowed by policy (too new)", "the key version is newer than any the key has" },
    { "encryption key not found", VAULT_REASON_NO_KEY },
    { "invalid ciphertext", VAULT_REASON_NO_FORM },
    { "decryption error", VAULT_REASON_SEALED },
    { "check-and-set parameter", VAULT_REASON_EXISTS },
    { "Upgrading from non-versioned", VAULT_REASON_UPGRADE },
    { "deletion is not allowed", "the key's settings forbid to delete it" },
    { "permission denied", "permission denied" },
    { "invalid token", "the token is not valid" },
    { "Vault is sealed", "sealed" },
    { "not initialized", "not initialised" },
    { "no handler for route", "no engine is mounted there" },
    { "unsupported path", "the engine there is of another kind" },
    { "invalid role or secret ID", VAULT_REASON_LOGIN },
    { "invalid secret id", VAULT_REASON_LOGIN },
    { "invalid role ID", VAULT_REASON_LOGIN },
    { "wrapping token is not valid", "the wrapping token is used up or was never valid" },
    { "token is expired", "the token that was shown is expired" },
    { "invalid audience", "the token that was shown is for another audience" },
    { "could not be found", "the role doesn't exist" },
    { "client certificate must be supplied", "a client certificate is wanted" },
    { "rate limit", "rate limit" },
};

const char *vault_reason_of(const char *body)
{
    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
        if (strstr(body, reasons[i].theirs) != NULL)
            return reasons[i].ours;
    }
    return "";
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions: keys that users' devices made, encrypted for an RSA key of the transit mount. Vault
 * decrypts, without a context; what comes out is looked at by who asked (keyd/session.h). Which
 * public key that is, devices are told by the same service.
 */
#include "common/base.h"
#include "keyd/kms_vault.h"

#include "common/parse.h"
#include "keyd/session.h"
#include "recipient/publickey.h"
#include "vault/status.h"
#include "vault/transit.h"

/* ---- sessions ---- */

/* What an administrator or the device can mend is named; all else is one sentence. */
static void explain_session(const struct vault_answer *answer, struct error *err)
{
    bool refused = answer->status == 400 || strcmp(answer->reason, VAULT_REASON_SEALED) == 0;
    if (!refused || strcmp(answer->reason, VAULT_REASON_NO_KEY) == 0 ||
        strcmp(answer->reason, VAULT_REASON_TOO_OLD) == 0)
        return;
    *err = (struct error)ERROR_INIT;
    (void)session_refuse(err);
}

static void on_opened(void *ctx, const struct vault_answer *answer)
{
    struct vault_job *j = ctx;
    struct error err = answer->err;
    if (err.code != ERR_OK) {
        explain_session(answer, &err);
    } else if (transit_opened(answer->body, &j->job->plain, &err) < 0 &&
               err.code == ERR_PRECONDITION) {
        err = (struct error)ERROR_INIT;
        (void)session_refuse(&err);
    }
    vault_job_end(j, err.code == ERR_OK ? NULL : &err);
}

/* "<name>:<version>", of the key that is configured. */
static int version_of(const struct kms_vault *s, const char *key_id, uint64_t *ret,
                      struct error *err)
{
    const char *name = s->config.server_key;
    size_t len = strlen(name);
    if (strncmp(key_id, name, len) == 0 && key_id[len] == ':' &&
        parse_u64(key_id + len + 1, ret) == 0 && *ret > 0)
        return 0;
    return error_set(err, ERR_INVALID,
                     "the session was made for server key '%s', which isn't a version of '%s'",
                     key_id, name);
}

/* The self-test's name was a tenant's key. */
static void be_about_server_key(struct vault_job *j)
{
    memcpy(j->name, j->s->config.server_key, sizeof(j->s->config.server_key));
}

void vault_session_open(struct vault_job *j)
{
    const struct kms_session *session = j->job->session;
    struct error err = ERROR_INIT;
    uint64_t version;
    if (version_of(j->s, session->server_key, &version, &err) < 0) {
        vault_job_end(j, &err);
        return;
    }
    be_about_server_key(j);
    vault_job_ask(j, "POST", "decrypt/%s", true,
                  transit_open_body(session->sealed, session->len, version), on_opened);
}

/* ---- the server key ---- */

_Static_assert(KEYD_PUBLIC_KEY_MAX >= PUBLIC_KEY_DER_MAX, "public_key_der writes that much");

static int take_der(const char *pem, struct keyd_server_key *ret, struct error *err)
{
    AUTO_PUBLIC_KEY struct public_key *key = NULL;
    if (public_key_parse(pem, strlen(pem), &key, err) < 0)
        return error_prefix(err, "the server key in Vault");
    return public_key_der(key, ret->public_key, &ret->public_key_len, err);
}

static int take_server_key(const struct kms_vault *s, const json_t *body,
                           struct keyd_server_key *ret, struct error *err)
{
    struct keyd_server_key key = { .hash = TRANSIT_OAEP_HASH };
    const char *pem;
    uint64_t version;
    if (transit_public_key(body, &version, &pem, err) < 0)
        return -1;
    if (take_der(pem, &key, err) < 0)
        return err->code == ERR_INVALID ? error_recode(err, ERR_PRECONDITION) : -1;
    (void)snprintf(key.key_id, sizeof(key.key_id), "%s:%llu", s->config.server_key,
                   (unsigned long long)version);
    *ret = key;
    return 0;
}

static void on_key(void *ctx, const struct vault_answer *answer)
{
    struct vault_job *j = ctx;
    struct error err = answer->err;
    if (answer->status == 404) {
        err = (struct error)ERROR_INIT;
        (void)error_set(&err, ERR_PRECONDITION, "Vault has no server key '%s' in '%s'",
                        j->s->config.server_key, j->s->config.mount);
    }
    if (err.code == ERR_OK)
        (void)!take_server_key(j->s, answer->body, &j->job->server_key, &err);
    vault_job_end(j, err.code == ERR_OK ? NULL : &err);
}

void vault_server_key_read(struct vault_job *j)
{
    be_about_server_key(j);
    vault_job_ask(j, "GET", "keys/%s", false, NULL, on_key);
}

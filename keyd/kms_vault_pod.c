/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A job as a pod: login with its own service account's token, self-test, the driver's work, and the
 * token is revoked. Nothing is kept from one job for the next: what a pod may do, Vault says each
 * time, and this process's own identity takes no part in it.
 */
#include "common/base.h"
#include "keyd/kms_vault.h"

#include "common/strbuf.h"
#include "common/wipe.h"

#define JWT_ALPHABET "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.="

static const enum may may[CAP_NEVER + 1] = { [CAP_UNWRAP] = MUST, [CAP_SERVER_KEY] = MAY };

/* ---- the self-test ---- */

/* Where the driver's rows say that unwrapping is done. */
static const struct capability_row *unwrap_row(const struct kms_vault *s)
{
    size_t i = 0;
    while (s->rows[i].of != CAP_UNWRAP)
        i++;
    return &s->rows[i];
}

/* A policy that lets any pod unwrap with any tenant's key is the mistake to make here. */
static int judge(const struct vault_job *j, const json_t *data, struct error *err)
{
    const struct capability_row *row = unwrap_row(j->s);
    char own[VAULT_PATH_MAX + 1], other[VAULT_PATH_MAX + 1];
    bool held = false;
    (void)!kms_vault_path(j->s, row->path, j->name, own);
    (void)!kms_vault_path(j->s, row->path, j->foreign, other);
    if (capability_held(data, own, row->capability, &held, err) < 0)
        return -1;
    if (!held)
        return error_set(
            err, ERR_PERMISSION,
            "Vault doesn't let this pod '%s' at %s: it is of another namespace, or role "
            "'%s' has no policy for its own",
            row->capability, own, j->s->config.auth.pod_role);
    if (capability_judge(j->s, may, j->name, data, err) < 0)
        return error_prefix(err, "as a pod");
    if (capability_held(data, other, row->capability, &held, err) < 0)
        return -1;
    return held ? error_set(err, ERR_PERMISSION,
                            "self-test: Vault's policy must not allow a pod of another tenant '%s' "
                            "at %s",
                            row->capability, other)
                : 0;
}

static void on_capabilities(void *ctx, const struct vault_answer *answer)
{
    struct vault_job *j = ctx;
    struct error err = answer->err;
    if (err.code == ERR_PERMISSION || err.code == ERR_PRECONDITION)
        (void)error_prefix(&err, "self-test: a pod can't ask what it may do");
    if (err.code == ERR_OK && judge(j, json_object_get(answer->body, "data"), &err) == 0)
        j->go(j);
    else
        vault_job_end(j, &err);
}

static json_t *question(const struct vault_job *j)
{
    char path[VAULT_PATH_MAX + 1];
    json_t *body = capability_question(j->s, j->name);
    (void)!kms_vault_path(j->s, unwrap_row(j->s)->path, j->foreign, path);
    (void)json_array_append_new(json_object_get(body, "paths"), json_string(path));
    return body;
}

static void on_guest(void *ctx, struct vault_guest *guest, const struct error *err)
{
    struct vault_job *j = ctx;
    if (guest == NULL) {
        vault_job_end(j, err);
        return;
    }
    j->guest = guest;
    json_t *body = question(j);
    const struct vault_request r = { .method = "POST",
                                     .path = "sys/capabilities-self",
                                     .body = body,
                                     .deadline = j->job->call.deadline };
    struct vault_answer none;
    if (capability_question_whole(body, &none))
        vault_guest_call(guest, &r, on_capabilities, j);
    else
        on_capabilities(j, &none);
    json_decref(body);
}

/* ---- the start ---- */

/* NUL-terminated; what isn't of a token's characters isn't sent. */
static int copy_token(const struct wire_view *token, struct wipe_buffer *ret, struct error *err)
{
    if (wipe_buffer_add(ret, token->data, token->len, WIRE_TOKEN_MAX) < 0)
        return error_memory(err);
    if (strspn(ret->bytes, JWT_ALPHABET) != token->len)
        return error_set(err, ERR_INVALID, "the pod's token has characters that no token has");
    return 0;
}

static void log_in(struct vault_job *j)
{
    AUTO_WIPE_BUFFER struct wipe_buffer jwt = WIPE_BUFFER_INIT;
    const struct kms_auth_config *auth = &j->s->config.auth;
    struct error err = ERROR_INIT;
    if (copy_token(&j->job->call.token, &jwt, &err) < 0) {
        vault_job_end(j, &err);
        return;
    }
    const struct vault_guest_login login = { .mount = auth->pod_mount,
                                             .role = auth->pod_role,
                                             .jwt = jwt.bytes,
                                             .deadline = j->job->call.deadline };
    vault_guest_start(j->s->vault, &login, on_guest, j);
}

void vault_job_start_pod(struct kms_vault *s, struct kms_job *job, const char *name,
                         const char *foreign, void (*go)(struct vault_job *j))
{
    struct error err = ERROR_INIT;
    if (s->config.auth.pod_role[0] == '\0') {
        (void)error_set(&err, ERR_PRECONDITION,
                        "key service '%s' takes no pod's token: its 'auth' has no 'pod_role'",
                        job->kms->name);
        kms_end(job, &err);
        return;
    }
    struct vault_job *j = calloc(1, sizeof(*j));
    if (j == NULL || str_copy(j->name, sizeof(j->name), name) < 0 ||
        str_copy(j->foreign, sizeof(j->foreign), foreign) < 0) {
        (void)error_memory(&err);
        free(j);
        kms_end(job, &err);
        return;
    }
    j->s = s;
    j->job = job;
    j->go = go;
    log_in(j);
}

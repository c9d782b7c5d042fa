/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A login of somebody else's, for one piece of work: the JWT goes into one request, the token that
 * comes back into each request of the guest and into the last one, which revokes it. Both live in
 * memory that is wiped.
 */
#include "common/base.h"
#include "vault/internal.h"

#include "common/deadline.h"
#include "common/log.h"

struct vault_guest {
    struct vault *v;
    struct wipe_buffer token;
    char role[VAULT_PATH_MAX + 1]; /* for the words of an error */
    void (*done)(void *ctx, struct vault_guest *guest, const struct error *err);
    void *ctx;
};

static void guest_free(struct vault_guest *s)
{
    wipe_buffer_release(&s->token);
    free(s);
}

/* ---- the login ---- */

static void refuse(struct vault_guest *s, struct error *err)
{
    void (*done)(void *ctx, struct vault_guest *guest, const struct error *err) = s->done;
    void *ctx = s->ctx;

    s->v->counters.guests_failed++;
    /* A refused login is a matter of permission, whatever status the method likes best. */
    if (err->code == ERR_PRECONDITION)
        (void)error_recode(err, ERR_PERMISSION);
    (void)error_prefix(err, "login by the pod's token, role '%.128s'", s->role);
    guest_free(s);
    done(ctx, NULL, err);
}

static int take_token(struct vault_guest *s, const json_t *body, struct error *err)
{
    const json_t *auth = json_object_get(body, "auth");
    const char *token = json_string_value(json_object_get(auth, "client_token"));

    if (token == NULL || token[0] == '\0' ||
        wipe_buffer_add(&s->token, token, strlen(token), CREDENTIAL_MAX) < 0)
        return error_set(err, ERR_UNAVAILABLE, "Vault's answer holds no token");
    return 0;
}

static void on_login(void *ctx, const struct vault_answer *answer)
{
    struct vault_guest *s = ctx;
    struct error err = answer->err;

    if (err.code != ERR_OK || take_token(s, answer->body, &err) < 0)
        refuse(s, &err);
    else
        s->done(s->ctx, s, &err);
}

static void log_in(struct vault_guest *s, const struct vault_guest_login *login)
{
    struct error err = ERROR_INIT;
    char path[VAULT_PATH_MAX + 1];
    json_t *body = json_pack("{s:s, s:s}", "role", login->role, "jwt", login->jwt);

    if (body == NULL) { /* all of it is text: the caller looked at the token */
        (void)error_memory(&err);
        refuse(s, &err);
        return;
    }
    (void)snprintf(path, sizeof(path), "auth/%.300s/login", login->mount);
    const struct vault_request r = {
        .method = "POST", .path = path, .body = body, .deadline = login->deadline
    };
    s->v->counters.guests++;
    call_start(s->v, &r, CALL_TOKEN_NONE, NULL, on_login, s);
    json_decref(body);
}

void vault_guest_start(struct vault *v, const struct vault_guest_login *login,
                       void (*done)(void *ctx, struct vault_guest *guest, const struct error *err),
                       void *ctx)
{
    struct error err = ERROR_INIT;
    struct vault_guest *s = calloc(1, sizeof(*s));

    if (s == NULL) {
        (void)error_memory(&err);
        done(ctx, NULL, &err);
        return;
    }
    s->v = v;
    s->done = done;
    s->ctx = ctx;
    (void)snprintf(s->role, sizeof(s->role), "%s", login->role);
    if (!v->stopping) {
        log_in(s, login);
        return;
    }
    (void)error_set(&err, ERR_CANCELED, "this process ends");
    refuse(s, &err);
}

/* ---- its requests ---- */

void vault_guest_call(struct vault_guest *s, const struct vault_request *r, vault_done done,
                      void *ctx)
{
    call_start(s->v, r, CALL_TOKEN_GIVEN, s->token.bytes, done, ctx);
}

/* ---- the end ---- */

/* That it is a kind that can't be revoked (batch) is no matter: its short time does it. */
static void on_revoked(void *ctx, const struct vault_answer *answer)
{
    struct vault *v = ctx;

    if (answer->err.code != ERR_OK && answer->err.code != ERR_CANCELED)
        log_warn("a pod's token of Vault could not be revoked", KV("reason", answer->err.msg));
    token_given_back(v);
}

void vault_guest_end(struct vault_guest *s)
{
    const struct vault_request r = { .method = "POST",
                                     .path = "auth/token/revoke-self",
                                     .deadline = deadline_in(TOKEN_REVOKE_MS) };

    if (s == NULL)
        return;
    s->v->revoking++;
    call_start(s->v, &r, CALL_TOKEN_GIVEN, s->token.bytes, on_revoked, s->v);
    guest_free(s);
}

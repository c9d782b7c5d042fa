/* SPDX-License-Identifier: Apache-2.0 */
/*
 * approle: a role id, and a secret id from a file. When the file holds a wrapping token
 * (secret_id_wrapped), it must have been made by exactly this role's secret-id path, else somebody
 * else's secret is being slipped in: that is refused before it is unwrapped. A wrapping token works
 * once; the secret id stays in memory for the next login, until that is refused.
 */
#include "common/base.h"
#include "vault/internal.h"

#include "common/deadline.h"
#include "common/leak.h"
#include "common/log.h"

/* Vault locks a role out for everybody after five refused secret ids within 15 minutes. */
#define SAME_AGAIN_MS (5u * 60 * 1000)

struct unwrapping {
    struct vault *v;
    struct wipe_buffer token;
};

static void login_with(struct vault *v, const char *secret_id)
{
    LEAK("keyd:secret-id", secret_id, strlen(secret_id));
    auth_login(v, json_pack("{s:s, s:s}", "role_id", v->auth.role_id, "secret_id", secret_id));
}

static void unwrapping_fail(struct unwrapping *u, const struct error *err, const char *what)
{
    struct error own = ERROR_INIT;

    (void)error_pass(&own, err);
    if (own.code == ERR_PRECONDITION)
        (void)error_recode(&own, ERR_PERMISSION);
    (void)error_prefix(&own, "%s", what);
    token_fail(u->v, &own);
    wipe_buffer_release(&u->token);
    free(u);
}

static void on_unwrapped(void *ctx, const struct vault_answer *answer)
{
    struct unwrapping *u = ctx;
    struct vault *v = u->v;
    struct error err = ERROR_INIT;
    const json_t *data = json_object_get(answer->body, "data");
    const char *secret_id = json_string_value(json_object_get(data, "secret_id"));

    if (answer->err.code == ERR_OK && secret_id == NULL)
        (void)error_set(&err, ERR_PERMISSION, "the wrapping token held no secret id");
    else if (answer->err.code == ERR_OK &&
             wipe_buffer_add(&v->auth.secret_id, secret_id, strlen(secret_id), KIB(4)) < 0)
        (void)error_memory(&err);
    else if (answer->err.code != ERR_OK)
        (void)error_pass(&err, &answer->err);
    if (err.code != ERR_OK) {
        unwrapping_fail(u, &err, "unwrap the secret id");
        return;
    }
    wipe_buffer_release(&u->token);
    free(u);
    login_with(v, v->auth.secret_id.bytes);
}

static bool path_is_right(const struct vault *v, const char *path)
{
    char want[VAULT_PATH_MAX + 1];

    (void)snprintf(want, sizeof(want), "auth/%s/role/%s/secret-id", v->auth.mount, v->auth.role);
    return path != NULL && strcmp(path, want) == 0;
}

static void on_looked_up(void *ctx, const struct vault_answer *answer)
{
    struct unwrapping *u = ctx;
    struct error err = ERROR_INIT;
    const json_t *data = json_object_get(answer->body, "data");
    const struct vault_request r = { .method = "POST",
                                     .path = "sys/wrapping/unwrap",
                                     .deadline = auth_deadline() };

    if (answer->err.code != ERR_OK) {
        unwrapping_fail(u, &answer->err, "look at the wrapped secret id");
        return;
    }
    if (!path_is_right(u->v, json_string_value(json_object_get(data, "creation_path")))) {
        log_error("SECURITY: a wrapped secret id was not made by this role's secret-id path",
                  KV("file", u->v->auth.secret_id_path), KV("role", u->v->auth.role));
        (void)error_set(
            &err, ERR_PERMISSION,
            "the wrapping token was not made by role '%s': somebody may have swapped it",
            u->v->auth.role);
        unwrapping_fail(u, &err, u->v->auth.secret_id_path);
        return;
    }
    call_start(u->v, &r, CALL_TOKEN_GIVEN, u->token.bytes, on_unwrapped, u);
}

/* Takes *token. */
static void unwrap(struct vault *v, struct wipe_buffer *token)
{
    struct error err = ERROR_INIT;
    struct unwrapping *u = calloc(1, sizeof(*u));
    AUTO_WIPE_BUFFER struct wipe_buffer mine = *token;
    json_t *body = json_pack("{s:s}", "token", mine.bytes);
    const struct vault_request r = {
        .method = "POST", .path = "sys/wrapping/lookup", .body = body, .deadline = auth_deadline()
    };

    *token = (struct wipe_buffer)WIPE_BUFFER_INIT;
    if (u == NULL || body == NULL) {
        free(u);
        json_decref(body);
        (void)error_memory(&err);
        token_fail(v, &err);
        return;
    }
    *u = (struct unwrapping){ .v = v, .token = mine };
    mine = (struct wipe_buffer)WIPE_BUFFER_INIT;
    call_start(v, &r, CALL_TOKEN_NONE, NULL, on_looked_up, u);
    json_decref(body);
}

static bool refused_before(const struct vault *v, const struct wipe_buffer *text)
{
    return v->auth.in_vain && deadline_left(v->auth.shown_at + SAME_AGAIN_MS) > 0 &&
           v->auth.shown.bytes != NULL && strcmp(v->auth.shown.bytes, text->bytes) == 0;
}

/* Takes *text. */
static void login_from_file(struct vault *v, struct wipe_buffer *text)
{
    struct error err = ERROR_INIT;

    if (refused_before(v, text)) {
        (void)error_set(&err, ERR_PERMISSION,
                        "the secret id in '%s' was refused, and there is no other one yet",
                        v->auth.secret_id_path);
        token_fail(v, &err);
        return;
    }
    wipe_buffer_release(&v->auth.shown);
    v->auth.shown = *text;
    *text = (struct wipe_buffer)WIPE_BUFFER_INIT;
    v->auth.shown_at = clock_ms();
    login_with(v, v->auth.shown.bytes);
}

void auth_approle_login(struct vault *v)
{
    AUTO_WIPE_BUFFER struct wipe_buffer text = WIPE_BUFFER_INIT;
    struct error err = ERROR_INIT;

    /* After a refusal the file may hold a new one. */
    if (v->auth.secret_id.bytes != NULL && v->token.refusals == 0) {
        login_with(v, v->auth.secret_id.bytes);
        return;
    }
    wipe_buffer_release(&v->auth.secret_id);
    if (auth_read_file(v->auth.secret_id_path, &text, &err) < 0)
        token_fail(v, &err);
    else if (v->auth.secret_id_wrapped)
        unwrap(v, &text);
    else
        login_from_file(v, &text);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * token-file: a Vault token that something else gets and keeps fresh (Vault Agent's sink, an
 * administrator). It is read again when it isn't accepted any more; it is renewed, and never
 * revoked: it isn't ours. token: the same with one that was given as a text.
 */
#include "common/base.h"
#include "vault/internal.h"

#include "common/deadline.h"

struct lookup {
    struct vault *v;
    struct wipe_buffer text;
};

static void lookup_free(struct lookup *l)
{
    wipe_buffer_release(&l->text);
    free(l);
}

static void on_lookup(void *ctx, const struct vault_answer *answer)
{
    struct lookup *l = ctx;
    struct vault *v = l->v;
    struct error err = ERROR_INIT;
    const json_t *data = json_object_get(answer->body, "data");
    json_int_t ttl = json_integer_value(json_object_get(data, "ttl"));

    if (answer->err.code == ERR_OK && ttl >= 0 && ttl <= INT32_MAX) {
        token_take_given(v, &l->text, (uint64_t)ttl,
                         json_is_true(json_object_get(data, "renewable")));
    } else {
        (void)error_pass(&err, &answer->err);
        if (err.code == ERR_OK)
            (void)error_set(&err, ERR_UNAVAILABLE, "Vault says nothing of the token's time");
        if (v->auth.token_path != NULL)
            (void)error_prefix(&err, "the token of '%s'", v->auth.token_path);
        else
            (void)error_prefix(&err, "the token that was given");
        token_fail(v, &err);
    }
    lookup_free(l);
}

/* Takes *text. */
static void look_up(struct vault *v, struct wipe_buffer *text)
{
    struct error err = ERROR_INIT;
    const struct vault_request r = { .method = "GET",
                                     .path = "auth/token/lookup-self",
                                     .deadline = auth_deadline() };
    struct lookup *l = calloc(1, sizeof(*l));

    if (l == NULL) {
        (void)error_memory(&err);
        token_fail(v, &err);
        return;
    }
    *l = (struct lookup){ .v = v, .text = *text };
    *text = (struct wipe_buffer)WIPE_BUFFER_INIT;
    call_start(v, &r, CALL_TOKEN_GIVEN, l->text.bytes, on_lookup, l);
}

void auth_token_file_login(struct vault *v)
{
    AUTO_WIPE_BUFFER struct wipe_buffer text = WIPE_BUFFER_INIT;
    struct error err = ERROR_INIT;

    if (auth_read_file(v->auth.token_path, &text, &err) < 0)
        token_fail(v, &err);
    else
        look_up(v, &text);
}

void auth_token_login(struct vault *v)
{
    AUTO_WIPE_BUFFER struct wipe_buffer text = WIPE_BUFFER_INIT;
    struct error err = ERROR_INIT;
    const struct wipe_buffer *given = &v->auth.token;

    if (wipe_buffer_add(&text, given->bytes, given->len, CREDENTIAL_MAX) < 0) {
        (void)error_memory(&err);
        token_fail(v, &err);
        return;
    }
    look_up(v, &text);
}

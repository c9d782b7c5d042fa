/* SPDX-License-Identifier: Apache-2.0 */
/* The table of login methods, and what they share. */
#include "common/base.h"
#include "vault/internal.h"

#include "common/deadline.h"
#include "vault/status.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOGIN_MS 20000u
#define CHUNK    1024

static const struct auth_method methods[] = {
    { .name = "kubernetes",
      .mount = "kubernetes",
      .needs_role = true,
      .needs_token_path = true,
      .login = auth_jwt_login },
    { .name = "jwt",
      .mount = "jwt",
      .needs_role = true,
      .needs_token_path = true,
      .login = auth_jwt_login },
    { .name = "approle",
      .mount = "approle",
      .needs_role = true,
      .needs_role_id = true,
      .login = auth_approle_login },
    { .name = "cert", .mount = "cert", .needs_cert = true, .login = auth_cert_login },
    { .name = "token-file",
      .mount = "token",
      .needs_token_path = true,
      .login = auth_token_file_login },
    { .name = "token", .mount = "token", .needs_token = true, .login = auth_token_login },
};

const struct auth_method *auth_method_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
        if (strcmp(methods[i].name, name) == 0)
            return &methods[i];
    }
    return NULL;
}

static int check_one(const struct auth_method *m, bool needed, const char *value, const char *what,
                     struct error *err)
{
    if (needed && value == NULL)
        return error_set(err, ERR_INVALID, "auth method '%s' needs '%s'", m->name, what);
    if (!needed && value != NULL)
        return error_set(err, ERR_INVALID, "auth method '%s' takes no '%s'", m->name, what);
    return 0;
}

int auth_check(const struct auth_method *m, const struct vault_options *o, struct error *err)
{
    const struct vault_auth_options *a = &o->auth;

    /* cert: a role is a choice, else any that fits the certificate */
    if (check_one(m, m->needs_role || (m->needs_cert && a->role != NULL), a->role, "role", err) <
            0 ||
        check_one(m, m->needs_token_path, a->token_path, "token_path", err) < 0 ||
        check_one(m, m->needs_role_id, a->role_id, "role_id", err) < 0 ||
        check_one(m, m->needs_role_id, a->secret_id_path, "secret_id_path", err) < 0 ||
        check_one(m, m->needs_token, a->token, "token", err) < 0)
        return -1;
    if (m->needs_cert && (o->cert_path == NULL || o->key_path == NULL))
        return error_set(err, ERR_INVALID,
                         "auth method '%s' needs a client certificate and its key", m->name);
    return 0;
}

uint64_t auth_deadline(void)
{
    return deadline_in(LOGIN_MS);
}

/* ---- credentials in files ---- */

static int read_into(int fd, const char *path, char chunk[CHUNK], struct wipe_buffer *ret,
                     struct error *err)
{
    ssize_t n;

    while ((n = read(fd, chunk, CHUNK)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            (void)error_errno(err, errno, "read '%s'", path);
            return error_recode(err, ERR_UNAVAILABLE);
        }
        if ((size_t)n > CREDENTIAL_MAX - ret->len)
            return error_set(err, ERR_UNAVAILABLE, "'%s' holds more than 8 KiB", path);
        if (wipe_buffer_add(ret, chunk, (size_t)n, CREDENTIAL_MAX) < 0)
            return error_memory(err);
    }
    return 0;
}

static int read_all(int fd, const char *path, struct wipe_buffer *ret, struct error *err)
{
    char chunk[CHUNK];
    int r = read_into(fd, path, chunk, ret, err);

    explicit_bzero(chunk, sizeof(chunk));
    return r;
}

int auth_read_file(const char *path, struct wipe_buffer *ret, struct error *err)
{
    AUTO_WIPE_BUFFER struct wipe_buffer text = WIPE_BUFFER_INIT;
    struct stat st;

    /* A projected token is a symlink. O_NONBLOCK: a FIFO must not hold up the loop. */
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        (void)error_errno(err, errno, "open '%s'", path);
        return error_recode(err, ERR_UNAVAILABLE);
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return error_set(err, ERR_UNAVAILABLE, "'%s' is not a regular file", path);
    if (read_all(fd, path, &text, err) < 0)
        return -1;
    while (text.len > 0 && strchr("\r\n \t", text.bytes[text.len - 1]) != NULL)
        text.bytes[--text.len] = '\0';
    if (text.len == 0 || strlen(text.bytes) != text.len)
        return error_set(err, ERR_UNAVAILABLE, "'%s' holds no credential", path);
    *ret = text;
    text = (struct wipe_buffer)WIPE_BUFFER_INIT;
    return 0;
}

/* ---- the login request ---- */

static void on_login(void *ctx, const struct vault_answer *answer)
{
    struct vault *v = ctx;
    struct error err = ERROR_INIT;

    v->auth.in_vain = strcmp(answer->reason, VAULT_REASON_LOGIN) == 0;
    if (answer->err.code == ERR_OK) {
        token_take(v, json_object_get(answer->body, "auth"));
        return;
    }
    /* A refused login is a matter of permission, whatever status the method likes best. */
    (void)error_pass(&err, &answer->err);
    if (err.code == ERR_PRECONDITION)
        (void)error_recode(&err, ERR_PERMISSION);
    (void)error_prefix(&err, "login by '%s'", v->method->name);
    token_fail(v, &err);
}

void auth_login(struct vault *v, json_t *body)
{
    struct error err = ERROR_INIT;
    char path[VAULT_PATH_MAX + 1];

    if (body == NULL || snprintf(path, sizeof(path), "auth/%s/login", v->auth.mount) < 0) {
        (void)error_memory(&err);
        json_decref(body);
        token_fail(v, &err);
        return;
    }
    const struct vault_request r = {
        .method = "POST", .path = path, .body = body, .deadline = auth_deadline()
    };
    call_start(v, &r, CALL_TOKEN_NONE, NULL, on_login, v);
    json_decref(body);
}

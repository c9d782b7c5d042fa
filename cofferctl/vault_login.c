/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/vault_login.h"

#include "common/log.h"
#include "common/secret.h"
#include "common/strbuf.h"
#include "common/wipe.h"

#define TIMEOUT_MS 10000u
#define TOKEN_MAX  KIB(8)

struct vault_flags vault_flags;

/* "https://HOST:PORT" -> "HOST:PORT". */
static int parse_address(const char *text, char *ret, size_t size, struct error *err)
{
    static const char scheme[] = "https://";
    const char *host = text + strlen(scheme);
    size_t len = strncmp(text, scheme, strlen(scheme)) == 0 ? strcspn(host, "/") : 0;

    if (len == 0 || len >= size || (host[len] != '\0' && host[len + 1] != '\0'))
        return error_set(err, ERR_INVALID, "the address '%s' must be https://HOST:PORT", text);
    memcpy(ret, host, len);
    ret[len] = '\0';
    const char *end = strrchr(ret, ']');
    return strchr(end == NULL ? ret : end, ':') != NULL
               ? 0
               : error_set(err, ERR_INVALID, "the address '%s' lacks its port: https://%s:8200",
                           text, ret);
}

static const char *given(const char *text)
{
    return text[0] == '\0' ? NULL : text;
}

static int fill_server(const struct kms_vault_config *v, struct vault_login *l,
                       struct vault_options *o, struct error *err)
{
    const char *name_space =
        vault_flags.name_space[0] == '\0' ? v->name_space : vault_flags.name_space;

    *o = (struct vault_options){ .name_space = given(name_space),
                                 .ca_path = vault_flags.ca[0] == '\0' ? v->ca : vault_flags.ca,
                                 .cert_path = given(v->client_cert),
                                 .key_path = given(v->client_key),
                                 .proxy = given(v->proxy),
                                 .timeout_ms = TIMEOUT_MS };
    for (size_t i = 0; i < v->n_addresses; i++)
        o->addresses[i] = v->addresses[i];
    if (vault_flags.address[0] == '\0')
        return str_copy(l->address, sizeof(l->address), v->addresses[0]);
    if (parse_address(vault_flags.address, l->address, sizeof(l->address), err) < 0)
        return -1;
    o->addresses[0] = l->address;
    o->addresses[1] = NULL;
    return 0;
}

static int take_token(struct wipe_buffer *ret, struct error *err)
{
    char *text = getenv("VAULT_TOKEN");

    if (text == NULL || text[0] == '\0')
        return 0;
    size_t len = strlen(text);
    bool fine = wipe_buffer_add(ret, text, len, TOKEN_MAX) == 0;
    for (const char *p = text; *p != '\0'; p++)
        fine = fine && *p > ' ' && *p <= '~';
    explicit_bzero(text, len);
    (void)unsetenv("VAULT_TOKEN");
    return fine ? 0 : error_set(err, ERR_INVALID, "VAULT_TOKEN holds no token");
}

static int fill_role_login(const struct kms_config *kms, struct vault_options *o, struct error *err)
{
    const struct kms_auth_config *a = &kms->vault->auth;

    if (a->secret_id_wrapped)
        return error_set(err, ERR_INVALID,
                         "the wrapped secret id of key service '%s' can be used once only, and not "
                         "here: give an administrator's token (VAULT_TOKEN or --token-file)",
                         kms->name);
    o->auth = (struct vault_auth_options){ .method = a->method,
                                           .mount = given(a->mount),
                                           .role = given(a->role),
                                           .token_path = given(a->token_path),
                                           .role_id = given(a->role_id),
                                           .secret_id_path = given(a->secret_id_path) };
    return 0;
}

static int fill_login_of(const struct kms_config *kms, enum vault_as as,
                         const struct wipe_buffer *token, struct vault_login *l,
                         struct vault_options *o, struct error *err)
{
    l->administrator = true;
    if (vault_flags.token_file[0] != '\0')
        o->auth = (struct vault_auth_options){ .method = "token-file",
                                               .token_path = vault_flags.token_file };
    else if (token->bytes != NULL)
        o->auth = (struct vault_auth_options){ .method = "token", .token = token->bytes };
    else if (as == VAULT_AS_ANYBODY) {
        l->administrator = false;
        return fill_role_login(kms, o, err);
    } else
        return error_set(err, ERR_INVALID,
                         "an administrator's token is needed: VAULT_TOKEN in the environment, or "
                         "--token-file");
    return 0;
}

int vault_login_prepare(struct error *err)
{
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    return secret_harden_process(err) < 0 || vault_global_init(err) < 0 ? -1 : 0;
}

/* As far as its address says. */
int vault_login_same(const struct kms_config *first, const struct kms_config *other,
                     struct error *err)
{
    const struct kms_vault_config *a = first->vault, *b = other->vault;

    if (vault_flags.address[0] == '\0' && (strcmp(a->addresses[0], b->addresses[0]) != 0 ||
                                           strcmp(a->name_space, b->name_space) != 0))
        return error_set(err, ERR_INVALID,
                         "key services '%s' and '%s' are at different servers: name one with --kms",
                         first->name, other->name);
    return 0;
}

int vault_login_open(const struct kms_config *kms, enum vault_as as, struct vault_login *ret,
                     struct error *err)
{
    AUTO_WIPE_BUFFER struct wipe_buffer token = WIPE_BUFFER_INIT;
    struct vault_login l = { .session = NULL };
    struct vault_options o;

    if (take_token(&token, err) < 0 || fill_server(kms->vault, &l, &o, err) < 0 ||
        fill_login_of(kms, as, &token, &l, &o, err) < 0 ||
        vault_session_open(&o, &l.session, err) < 0)
        return -1;
    *ret = l;
    return 0;
}

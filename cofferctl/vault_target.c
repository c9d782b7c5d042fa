/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/vault_target.h"

#include "cofferctl/vault_roles.h"
#include "common/fs.h"
#include "common/log.h"
#include "common/parse.h"
#include "common/secret.h"
#include "common/strbuf.h"
#include "common/wipe.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#define TIMEOUT_MS 10000u
#define PEM_MAX    KIB(64)
#define TOKEN_MAX  KIB(8)

struct vault_flags vault_flags;

void vault_target_free(struct vault_target *t)
{
    if (t == NULL)
        return;
    vault_session_close(t->session);
    config_free(t->config);
    free(t->kubernetes_ca_text);
    free(t->client_ca_text);
    free(t);
}

/* ---- which key services ---- */

static bool named(const struct flag_strings *names, const char *name)
{
    for (size_t i = 0; i < names->len; i++) {
        if (strcmp(names->items[i], name) == 0)
            return true;
    }
    return false;
}

static int check_names(const struct config *c, const struct flag_strings *names, struct error *err)
{
    for (size_t i = 0; i < names->len; i++) {
        if (config_kms(c, names->items[i]) == NULL)
            return error_set(err, ERR_INVALID, "--kms '%s': the configuration has no such service",
                             names->items[i]);
    }
    return 0;
}

/* One server, as far as its address says. */
static int check_same(const struct vault_target *t, const struct kms_config *kms, struct error *err)
{
    const struct kms_vault_config *a = t->kms->vault, *b = kms->vault;

    if (vault_flags.address[0] == '\0' && (strcmp(a->addresses[0], b->addresses[0]) != 0 ||
                                           strcmp(a->name_space, b->name_space) != 0))
        return error_set(err, ERR_INVALID,
                         "key services '%s' and '%s' are at different servers: name one with --kms",
                         t->kms->name, kms->name);
    return 0;
}

static int choose(struct vault_target *t, struct error *err)
{
    const struct config *c = t->config;

    if (check_names(c, &vault_flags.kms, err) < 0)
        return -1;
    for (size_t i = 0; i < c->n_kms; i++) {
        const struct kms_config *kms = &c->kms[i];
        bool wanted =
            vault_flags.kms.len == 0 ? kms->vault != NULL : named(&vault_flags.kms, kms->name);
        if (!wanted)
            continue;
        if (vault_layout_add(&t->layout, kms, err) < 0)
            return -1;
        if (t->kms == NULL)
            t->kms = kms;
        if (check_same(t, kms, err) < 0)
            return -1;
    }
    if (t->kms == NULL)
        return error_set(err, ERR_INVALID, "the configuration has no key service of Vault's");
    return 0;
}

/* ---- the layout ---- */

static int read_pem(const char *flag, const char *path, char **ret, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(PEM_MAX);
    AUTO_CLOSE int fd = -1;

    if (path[0] == '\0')
        return 0;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return error_errno(err, errno, "%s: open '%s'", flag, path);
    if (fs_read_fd(fd, path, PEM_MAX, &text, err) < 0)
        return error_prefix(err, "%s", flag);
    if (strstr(strbuf_text(&text), "-----BEGIN CERTIFICATE-----") == NULL)
        return error_set(err, ERR_INVALID, "%s: '%s' holds no certificate in PEM", flag, path);
    *ret = strbuf_detach(&text);
    return 0;
}

static int fill_login(struct vault_target *t, struct error *err)
{
    const struct kms_auth_config *a = &t->kms->vault->auth;
    const char *method = strcmp(vault_flags.auth, "configured") == 0 ? a->method : vault_flags.auth;
    const struct vault_method *m =
        vault_method_find(method); /* token-file, none: nothing to make */
    const char *mount = vault_flags.auth_mount;

    t->layout.method = m == NULL ? "" : m->name;
    if (mount[0] == '\0' && strcmp(method, a->method) == 0)
        mount = a->mount;
    if (mount[0] == '\0')
        mount = t->layout.method;
    if (str_copy(t->layout.login, sizeof(t->layout.login), mount) < 0)
        return error_set(err, ERR_INVALID, "--auth-mount is too long");
    return 0;
}

static int fill_layout(struct vault_target *t, struct error *err)
{
    struct vault_layout *l = &t->layout;

    if (read_pem("--kubernetes-ca", vault_flags.kubernetes_ca, &t->kubernetes_ca_text, err) < 0 ||
        read_pem("--client-ca", vault_flags.client_ca, &t->client_ca_text, err) < 0 ||
        fill_login(t, err) < 0)
        return -1;
    l->prefix = vault_flags.prefix;
    l->server_key = vault_flags.server_key;
    l->roles = vault_flags.roles;
    l->service_namespace = vault_flags.service_namespace;
    l->audience = vault_flags.audience;
    l->kubernetes_host =
        vault_flags.kubernetes_host[0] == '\0' ? NULL : vault_flags.kubernetes_host;
    l->kubernetes_ca_text = t->kubernetes_ca_text;
    l->client_ca_text = t->client_ca_text;
    return vault_layout_check(l, err);
}

/* Beside this program: .../bin/cofferctl and .../share/coffer/vault. */
static int find_policies(struct vault_target *t, struct error *err)
{
    char self[PATH_MAX];
    ssize_t n;

    if (vault_flags.policies[0] != '\0') {
        if (str_copy(t->policies, sizeof(t->policies), vault_flags.policies) < 0)
            return error_set(err, ERR_INVALID, "--policies is too long");
        return 0;
    }
    n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n < 0)
        return error_errno(err, errno, "readlink '/proc/self/exe'");
    self[n] = '\0';
    for (unsigned up = 0; up < 2; up++) {
        char *slash = strrchr(self, '/');
        if (slash != NULL)
            *slash = '\0';
    }
    int len = snprintf(t->policies, sizeof(t->policies), "%.4000s/share/coffer/vault", self);
    if (len < 0 || access(t->policies, R_OK) < 0)
        return error_set(err, ERR_NOT_FOUND,
                         "the policy files aren't in '%s': name their folder with --policies",
                         t->policies);
    return 0;
}

/* ---- whom we ask, as whom ---- */

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

static int fill_server(struct vault_target *t, struct vault_options *o, struct error *err)
{
    const struct kms_vault_config *v = t->kms->vault;
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
        return str_copy(t->address, sizeof(t->address), v->addresses[0]);
    if (parse_address(vault_flags.address, t->address, sizeof(t->address), err) < 0)
        return -1;
    o->addresses[0] = t->address;
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

static int fill_role_login(const struct vault_target *t, struct vault_options *o, struct error *err)
{
    const struct kms_auth_config *a = &t->kms->vault->auth;

    if (a->secret_id_wrapped)
        return error_set(err, ERR_INVALID,
                         "the wrapped secret id of key service '%s' can be used once only, and not "
                         "here: give an administrator's token (VAULT_TOKEN or --token-file)",
                         t->kms->name);
    o->auth = (struct vault_auth_options){ .method = a->method,
                                           .mount = given(a->mount),
                                           .role = given(a->role),
                                           .token_path = given(a->token_path),
                                           .role_id = given(a->role_id),
                                           .secret_id_path = given(a->secret_id_path) };
    return 0;
}

static int fill_login_of(struct vault_target *t, enum vault_as as, const struct wipe_buffer *token,
                         struct vault_options *o, struct error *err)
{
    t->administrator = true;
    if (vault_flags.token_file[0] != '\0')
        o->auth = (struct vault_auth_options){ .method = "token-file",
                                               .token_path = vault_flags.token_file };
    else if (token->bytes != NULL)
        o->auth = (struct vault_auth_options){ .method = "token", .token = token->bytes };
    else if (as == VAULT_AS_ANYBODY) {
        t->administrator = false;
        return fill_role_login(t, o, err);
    } else
        return error_set(err, ERR_INVALID,
                         "an administrator's token is needed: VAULT_TOKEN in the environment, or "
                         "--token-file");
    return 0;
}

static int open_session(struct vault_target *t, enum vault_as as, struct error *err)
{
    AUTO_WIPE_BUFFER struct wipe_buffer token = WIPE_BUFFER_INIT;
    struct vault_options o;

    if (take_token(&token, err) < 0 || fill_server(t, &o, err) < 0 ||
        fill_login_of(t, as, &token, &o, err) < 0)
        return -1;
    return vault_session_open(&o, &t->session, err);
}

int vault_target_open(const struct cli *cli, enum vault_as as, struct vault_target **ret,
                      struct error *err)
{
    AUTO_VAULT_TARGET struct vault_target *t = NULL;

    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    if (secret_harden_process(err) < 0 || vault_global_init(err) < 0)
        return -1;
    t = calloc(1, sizeof(*t));
    if (t == NULL)
        return error_set(err, ERR_EXHAUSTED, "out of memory");
    if (config_load(cli->config, &t->config, err) < 0 || choose(t, err) < 0 ||
        fill_layout(t, err) < 0 || find_policies(t, err) < 0 || open_session(t, as, err) < 0)
        return -1;
    *ret = TAKE_PTR(t);
    return 0;
}

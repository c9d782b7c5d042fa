/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/vault_target.h"

#include "cofferctl/vault_roles.h"
#include "common/fs.h"
#include "common/strbuf.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#define PEM_MAX KIB(64)

void vault_target_free(struct vault_target *t)
{
    if (t == NULL)
        return;
    vault_session_close(t->login.session);
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
        if (vault_login_same(t->kms, kms, err) < 0)
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

/* ---- all of it ---- */

int vault_target_open(const struct cli *cli, enum vault_as as, struct vault_target **ret,
                      struct error *err)
{
    AUTO_VAULT_TARGET struct vault_target *t = NULL;

    if (vault_login_prepare(err) < 0)
        return -1;
    t = calloc(1, sizeof(*t));
    if (t == NULL)
        return error_memory(err);
    if (config_load(cli->config, &t->config, err) < 0 || choose(t, err) < 0 ||
        fill_layout(t, err) < 0 || find_policies(t, err) < 0 ||
        vault_login_open(t->kms, as, &t->login, err) < 0)
        return -1;
    t->session = t->login.session;
    *ret = TAKE_PTR(t);
    return 0;
}

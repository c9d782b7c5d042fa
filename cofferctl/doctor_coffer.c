/* SPDX-License-Identifier: Apache-2.0 */
/* doctor's checks of Coffer's own parts: configuration, pools, helper, daemons. */
#include "common/base.h"
#include "cofferctl/doctor.h"

#include "backends/backend.h"
#include "cofferctl/endpoint.h"
#include "common/deadline.h"
#include "common/json.h"
#include "common/proc.h"
#include "csi/client.h"
#include "keyd/client.h"
#include "volume/escrow.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define ANSWER_MS 10000u
#define LOW_BYTES GIB(1)

/* ---- configuration and pools ---- */

void check_config(const struct doctor *d, struct findings *f)
{
    AUTO_CONFIG struct config *config = NULL;
    struct error err = ERROR_INIT;
    struct stat st;

    if (config_load(d->config_path, &config, &err) < 0) {
        findings_say(f, FOUND_FAIL,
                     err.code == ERR_NOT_FOUND
                         ? "write it (ARCHITECTURE.md has an example), or name it with --config"
                         : "correct it; cofferctl config check reads it again",
                     "%s", err.msg);
        findings_say(f, FOUND_WARN, "", "the pools and key services can't be looked at without it");
        return;
    }
    if (stat(d->config_path, &st) == 0 && (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        findings_say(f, FOUND_WARN, "chmod go-w the file",
                     "%s: others than its owner can change it", d->config_path);
    findings_say(f, FOUND_OK, "", "%s: %zu pools, %zu key services", d->config_path,
                 config->n_pools, config->n_kms);
}

/* What is really left, whatever a sparse pool has promised. */
static void say_capacity(struct findings *f, const struct pool_config *pool,
                         const struct pool_probe *p)
{
    bool low = p->free < LOW_BYTES || p->free < p->total / 20;

    findings_say(f, low ? FOUND_WARN : FOUND_OK,
                 low ? "enlarge the file system, or delete volumes" : "",
                 "'%s' at %s (%s): %llu of %llu MiB are free", pool->name, pool->path, p->fs,
                 (unsigned long long)(p->free / MIB(1)), (unsigned long long)(p->total / MIB(1)));
}

static void say_abilities(const struct doctor *d, struct findings *f, const char *name,
                          const struct pool_probe *p)
{
    if (!p->tried) {
        findings_say(f, FOUND_WARN, d->root ? "" : "run doctor as root",
                     "'%s': direct I/O and reserving space weren't tried: %s", name, p->problem);
        return;
    }
    if (!p->reserves_space)
        findings_say(f, FOUND_FAIL, "put the pool on ext4, xfs or btrfs",
                     "'%s': its file system (%s) can't reserve space (fallocate)", name, p->fs);
    if (!p->direct_io)
        findings_say(f, FOUND_FAIL, "put the pool on ext4, xfs or btrfs",
                     "'%s': its file system (%s) has no direct I/O", name, p->fs);
}

static void say_escrow_key(struct findings *f, const struct pool_config *pool)
{
    struct recipient key;
    struct error err = ERROR_INIT;

    if (pool->escrow[0] != '\0' && escrow_read(pool->escrow, &key, &err) < 0)
        findings_say(f, FOUND_FAIL, "put the public key there, or take 'escrow' out of the pool",
                     "'%s': %s", pool->name, err.msg);
}

/* Only this pool: one whose file system hangs must not hide the others. */
void check_pool(const struct doctor *d, struct findings *f)
{
    struct pool_config pool_config = *d->pool;
    struct config one = *d->config;
    AUTO_POOL_SET struct pool_set *set = NULL;
    struct pool_probe probe;
    struct error err = ERROR_INIT;

    one.pools = &pool_config;
    one.n_pools = 1;
    if (pool_set_open(&one, &set, &err) < 0 || pool_ready(set->pools[0], &err) < 0 ||
        set->pools[0]->ops->probe(set->pools[0], &probe, &err) < 0) {
        findings_say(f, err.sys_errno == EACCES ? FOUND_WARN : FOUND_FAIL,
                     err.sys_errno == EACCES
                         ? "run doctor as root or as the pool's owner"
                         : "mount its file system; for a new pool: cofferctl pool init",
                     "%s", err.msg);
        return;
    }
    say_capacity(f, &pool_config, &probe);
    say_abilities(d, f, pool_config.name, &probe);
    say_escrow_key(f, &pool_config);
}

/* ---- the helper ---- */

static bool safe_file(const char *path, struct findings *f)
{
    struct stat st;

    if (path[0] != '/' || stat(path, &st) < 0) {
        findings_say(f, FOUND_FAIL, "install it, or name it with --crypt-helper", "%s: %s", path,
                     path[0] != '/' ? "the path is not absolute" : strerror(errno));
        return false;
    }
    if (!S_ISREG(st.st_mode) || (st.st_mode & S_IXUSR) == 0) {
        findings_say(f, FOUND_FAIL, "install it again", "%s is no program", path);
        return false;
    }
    if (st.st_uid != 0 || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        findings_say(f, FOUND_FAIL, "chown root and chmod 0755 it",
                     "%s can be changed by others than root, and root runs it", path);
    return true;
}

void check_helper(const struct doctor *d, struct findings *f)
{
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = -1 };
    const char *const argv[] = { d->crypt_helper, "--version", NULL };
    const struct proc_spec spec = { .argv = argv, .max_output = 256, .limit_ms = ANSWER_MS };
    struct error err = ERROR_INIT;

    if (!safe_file(d->crypt_helper, f))
        return;
    if (proc_run(&spec, &r, &err) < 0) {
        findings_say(f, FOUND_FAIL, "", "%s", err.msg);
        return;
    }
    const char *text = strbuf_text(&r.output);
    if (strcmp(text, "coffer-crypt " COFFER_VERSION "\n") == 0)
        findings_say(f, FOUND_OK, "", "%s, version " COFFER_VERSION, d->crypt_helper);
    else
        findings_say(f, FOUND_FAIL, "install the same version of all programs",
                     "%s says '%.*s', cofferctl is " COFFER_VERSION, d->crypt_helper,
                     (int)strcspn(text, "\n"), text);
}

/* ---- coffer-keyd ---- */

static bool serves(const json_t *list, const char *name)
{
    const json_t *kms;
    size_t i;

    json_array_foreach (list, i, kms) {
        const char *have = json_string_value(json_object_get(kms, "name"));
        if (have != NULL && strcmp(have, name) == 0)
            return true;
    }
    return false;
}

static void say_status(const struct doctor *d, struct findings *f, const json_t *status)
{
    const char *version = json_string_value(json_object_get(status, "version"));
    const json_t *list = json_object_get(status, "kms");

    if (version == NULL || strcmp(version, COFFER_VERSION) != 0)
        findings_say(f, FOUND_FAIL, "restart it from the same version",
                     "it is version %s, cofferctl is " COFFER_VERSION,
                     version != NULL ? version : "unknown");
    else
        findings_say(f, FOUND_OK, "", "it answers on %s, version %s", d->keyd_socket, version);
    doctor_kms(d->config, list, f);
    for (size_t i = 0; d->config != NULL && i < d->config->n_kms; i++) {
        if (!serves(list, d->config->kms[i].name))
            findings_say(f, FOUND_FAIL, "restart coffer-keyd with this configuration",
                         "it doesn't serve key service '%s' of the configuration",
                         d->config->kms[i].name);
    }
}

static bool allows(const json_t *status, const char *op)
{
    const json_t *name;
    size_t i;

    json_array_foreach (json_object_get(status, "allow"), i, name) {
        const char *have = json_string_value(name);
        if (have != NULL && strcmp(have, op) == 0)
            return true;
    }
    return false;
}

/* Pools with an escrow key: its file, and that this node may wrap for it. */
static void say_escrow(const struct doctor *d, struct findings *f, const json_t *status)
{
    for (size_t i = 0; d->config != NULL && i < d->config->n_pools; i++) {
        const struct pool_config *p = &d->config->pools[i];

        if (p->escrow[0] != '\0' && !allows(status, "WRAP_FOR"))
            findings_say(f, FOUND_FAIL, "add WRAP_FOR to a node's coffer-keyd --allow",
                         "pool '%s' has an escrow key, and coffer-keyd doesn't allow WRAP_FOR: no "
                         "new volume there can be used",
                         p->name);
    }
}

void check_keyd(const struct doctor *d, struct findings *f)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(65536);
    AUTO_JSON json_t *status = NULL;
    struct error err = ERROR_INIT;

    if (keyd_status(endpoint_path(d->keyd_socket), deadline_in(ANSWER_MS), &text, &err) < 0 ||
        json_parse(strbuf_text(&text), text.len, "coffer-keyd's status", &status, &err) < 0) {
        bool forbidden = err.code == ERR_PERMISSION;

        findings_say(f, forbidden && !d->root ? FOUND_WARN : FOUND_FAIL,
                     forbidden ? "run doctor as root, or as a user that keyd's --peer allows"
                               : "systemctl status coffer-keyd",
                     "%s", err.msg);
        return;
    }
    say_status(d, f, status);
    say_escrow(d, f, status);
}

/* ---- the gRPC daemons ---- */

static void check_socket(const struct doctor *d, struct findings *f, const char *socket,
                         const char *unit)
{
    AUTO_STRBUF struct strbuf endpoint = STRBUF_INIT(512);
    AUTO_JSON json_t *reply = NULL;
    struct error err = ERROR_INIT;
    char fix[128];

    /* gRPC says "failed to connect" for all of it; the file says more */
    if (access(endpoint_path(socket), W_OK) < 0 && errno == EACCES && !d->root) {
        findings_say(f, FOUND_WARN, "run doctor as root", "%s: %s", endpoint_path(socket),
                     strerror(EACCES));
        return;
    }
    (void)snprintf(fix, sizeof(fix), "systemctl status %s", unit);
    if (access(endpoint_path(socket), F_OK) < 0) {
        findings_say(f, FOUND_FAIL, fix, "%s: %s", endpoint_path(socket), strerror(errno));
        return;
    }
    if (endpoint_of(socket, "the socket's path", &endpoint, &err) < 0 ||
        csi_client_call(strbuf_text(&endpoint), "csi.v1.Identity/GetPluginInfo", NULL, ANSWER_MS,
                        &reply, &err) < 0) {
        findings_say(f, FOUND_FAIL, fix, "%s: %s", endpoint_path(socket), err.msg);
        return;
    }
    const char *name = json_string_value(json_object_get(reply, "name"));
    const char *version = json_string_value(json_object_get(reply, "vendor_version"));
    bool same = version != NULL && strcmp(version, COFFER_VERSION) == 0;
    findings_say(f, same ? FOUND_OK : FOUND_FAIL, same ? "" : "restart it from the same version",
                 "%s answers on %s, version %s%s", name != NULL ? name : "it",
                 endpoint_path(socket), version != NULL ? version : "unknown",
                 same ? "" : ", cofferctl is " COFFER_VERSION);
}

void check_node(const struct doctor *d, struct findings *f)
{
    check_socket(d, f, d->node_socket, "coffer-node");
}

void check_admin(const struct doctor *d, struct findings *f)
{
    check_socket(d, f, d->admin_socket, "coffer-node");
}

void check_controller(const struct doctor *d, struct findings *f)
{
    if (access(endpoint_path(d->controller_socket), F_OK) < 0 && errno == ENOENT)
        findings_say(f, FOUND_WARN,
                     "systemctl status coffer-controller; in Kubernetes it is elsewhere",
                     "there is none on this machine (%s)", endpoint_path(d->controller_socket));
    else
        check_socket(d, f, d->controller_socket, "coffer-controller");
}

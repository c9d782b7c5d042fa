/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl doctor: one page: everything Coffer depends on, what is wrong and what to do. */
#include "common/base.h"
#include "cofferctl/doctor.h"
#include "cofferctl/verbs.h"

#include "common/json.h"
#include "common/proc.h"
#include "common/strbuf.h"

#include <unistd.h>

#define LIMIT_MS          20000u
#define KEYD_SOCKET       "/run/coffer/keyd/keyd.sock" /* as the units have it */
#define KEYD_SOCKET_ALONE "/run/coffer/keyd.sock"      /* as a coffer-keyd without flags has it */

static struct {
    const char *crypt_helper, *device_dir, *keyd_socket, *node_socket, *admin_socket;
    const char *controller_socket, *only;
} options;

static const struct flag flags[] = {
    { "crypt-helper", NULL, FLAG_STRING, &options.crypt_helper, "/usr/libexec/coffer/coffer-crypt",
      "absolute path of coffer-crypt", NULL },
    { "device-dir", NULL, FLAG_STRING, &options.device_dir, "/dev/coffer",
      "coffer-node's device nodes", NULL },
    { "keyd-socket", "COFFER_KEYD_SOCKET", FLAG_STRING, &options.keyd_socket, "",
      "coffer-keyd's socket; default: " KEYD_SOCKET ", else " KEYD_SOCKET_ALONE, NULL },
    { "node-socket", "COFFER_NODE_SOCKET", FLAG_STRING, &options.node_socket,
      "/run/coffer/csi.sock", "coffer-node's CSI socket", NULL },
    { "admin-socket", "COFFER_ADMIN_SOCKET", FLAG_STRING, &options.admin_socket,
      "/run/coffer/admin.sock", "coffer-node's admin socket", NULL },
    { "controller-socket", "COFFER_CONTROLLER_SOCKET", FLAG_STRING, &options.controller_socket,
      "/run/coffer/controller/csi.sock", "coffer-controller's CSI socket", NULL },
    { "only", NULL, FLAG_STRING, &options.only, "",
      "one check by its name, as the page shows it; of pools: pool:NAME", NULL },
};

static const struct check {
    const char *name;
    doctor_check *run;
    bool each_pool;
} checks[] = {
    { "user", check_user, false },
    { "config", check_config, false },
    { "pool", check_pool, true },
    { "device-mapper", check_device_mapper, false },
    { "dm-crypt", check_crypt_target, false },
    { "loop", check_loop, false },
    { "keyring", check_keyring, false },
    { "device-dir", check_device_dir, false },
    { "tools", check_tools, false },
    { "coffer-crypt", check_helper, false },
    { "coffer-keyd", check_keyd, false },
    { "coffer-node", check_node, false },
    { "admin socket", check_admin, false },
    { "controller", check_controller, false },
    { "clock", check_clock, false },
    { "swap", check_swap, false },
    { "core dumps", check_cores, false },
};

/* ---- one check, in this process (--only) ---- */

static struct doctor doctor_of(const struct cli *cli)
{
    return (struct doctor){ .config_path = cli->config,
                            .crypt_helper = options.crypt_helper,
                            .device_dir = options.device_dir,
                            .keyd_socket = options.keyd_socket,
                            .node_socket = options.node_socket,
                            .admin_socket = options.admin_socket,
                            .controller_socket = options.controller_socket,
                            .root = geteuid() == 0 };
}

/* "pool:fast" is check "pool" on pool "fast". */
static const struct check *find_check(const char *name, const char **ret_pool)
{
    for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
        size_t len = strlen(checks[i].name);
        if (strncmp(name, checks[i].name, len) != 0)
            continue;
        if (name[len] == (checks[i].each_pool ? ':' : '\0')) {
            *ret_pool = name[len] == ':' ? name + len + 1 : NULL;
            return &checks[i];
        }
    }
    return NULL;
}

static int run_only(const struct cli *cli, const char *name, json_t *rows, struct error *err)
{
    AUTO_CONFIG struct config *config = NULL;
    struct doctor d = doctor_of(cli);
    const char *pool = NULL;
    const struct check *c = find_check(name, &pool);
    struct findings f = { .rows = rows };
    if (c == NULL)
        return error_set(err, ERR_INVALID, "--only '%s' is no check", name);
    if (config_load(cli->config, &config, NULL) == 0)
        d.config = config;
    if (pool != NULL && config != NULL)
        d.pool = config_pool(config, pool);
    if (pool != NULL && d.pool == NULL)
        return error_set(err, ERR_NOT_FOUND, "there is no pool '%s' to look at", pool);
    f.check = c->name;
    c->run(&d, &f);
    return 0;
}

/* ---- all of them, each in a process of its own ---- */

static void ignore_line(void *ctx UNUSED, const char *line UNUSED)
{
}

static int spawn(const struct cli *cli, const char *only, struct proc_result *ret,
                 struct error *err)
{
    const char *const argv[] = { "/proc/self/exe",
                                 "doctor",
                                 "--only",
                                 only,
                                 "--output",
                                 "json",
                                 "--config",
                                 cli->config,
                                 "--crypt-helper",
                                 options.crypt_helper,
                                 "--device-dir",
                                 options.device_dir,
                                 "--keyd-socket",
                                 options.keyd_socket,
                                 "--node-socket",
                                 options.node_socket,
                                 "--admin-socket",
                                 options.admin_socket,
                                 "--controller-socket",
                                 options.controller_socket,
                                 NULL };
    const struct proc_spec spec = {
        .argv = argv, .max_output = MIB(1), .limit_ms = LIMIT_MS, .on_line = ignore_line
    };
    return proc_run(&spec, ret, err);
}

/* What a check that ended badly has to say for itself. */
static void say_broken(json_t *rows, const char *check, const struct proc_result *r,
                       const struct error *err)
{
    struct findings f = { .rows = rows, .check = check };
    if (err->code == ERR_DEADLINE)
        findings_say(&f, FOUND_FAIL, "", "it gave no answer within %u seconds", LIMIT_MS / 1000);
    else if (err->code != ERR_OK)
        findings_say(&f, FOUND_FAIL, "", "it can't be run: %s", err->msg);
    else if (r->signal != 0)
        findings_say(&f, FOUND_FAIL, "report this", "the check was ended by signal %d", r->signal);
    else
        findings_say(&f, FOUND_FAIL, "", "the check failed: %s", r->last_line);
}

static void run_apart(const struct cli *cli, const struct check *c, const char *pool, json_t *rows)
{
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = -1 };
    AUTO_JSON json_t *found = NULL;
    struct error err = ERROR_INIT;
    char only[64];
    (void)snprintf(only, sizeof(only), "%s%s%s", c->name, pool != NULL ? ":" : "",
                   pool != NULL ? pool : "");
    if (spawn(cli, only, &r, &err) == 0)
        found = json_own(strbuf_text(&r.output));
    if (json_is_array(found))
        (void)json_array_extend(rows, found);
    else
        say_broken(rows, c->name, &r, &err);
}

static void run_all(const struct cli *cli, json_t *rows)
{
    AUTO_CONFIG struct config *config = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
        const struct check *c = &checks[i];
        if (!c->each_pool)
            run_apart(cli, c, NULL, rows);
        if (c->run == check_config)
            (void)!config_load(cli->config, &config, NULL); /* the check has said why not */
        for (size_t k = 0; c->each_pool && config != NULL && k < config->n_pools; k++)
            run_apart(cli, c, config->pools[k].name, rows);
    }
}

static int run(const struct cli *cli, struct error *err)
{
    AUTO_JSON json_t *rows = json_array();
    if (options.keyd_socket[0] == '\0')
        options.keyd_socket = access(KEYD_SOCKET, F_OK) < 0 && access(KEYD_SOCKET_ALONE, F_OK) == 0
                                  ? KEYD_SOCKET_ALONE
                                  : KEYD_SOCKET;
    if (options.only[0] == '\0')
        run_all(cli, rows);
    else if (run_only(cli, options.only, rows, err) < 0)
        return -1;
    if (findings_print(cli->out, cli->output, rows, err) < 0)
        return -1;
    return findings_judge(rows, err);
}

const struct verb doctor = {
    .group = "doctor",
    .name = "",
    .help = "check everything Coffer depends on, and say what to do; exit code 0 when nothing "
            "failed",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .run = run,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* main.c: coffer-controller. Command line, configuration, pools; then the CSI server until SIGTERM.
 */
#include "common/base.h"
#include "controller/controller.h"

#include "backends/sampler.h"
#include "common/flags.h"
#include "common/log.h"
#include "common/monitor.h"
#include "common/peers.h"
#include "common/thread.h"
#include "csi/server.h"
#include "csi/stats.h"
#include "keyd/client.h"

#include <sys/stat.h>
#include <unistd.h>

struct options {
    const char *endpoint, *config, *keyd_socket, *driver_name, *node_id, *expand;
    const char *http, *log_level, *log_format, *socket_group;
};

static const struct flags_program program = { "coffer-controller",
                                              "usage: coffer-controller [flags]" };

static int parse_options(struct options *o, int argc, char **argv, bool *ret_done,
                         struct error *err)
{
    const struct flag flags[] = {
        { "endpoint", "CSI_ENDPOINT", FLAG_STRING, &o->endpoint, "", "CSI socket; required", NULL },
        { "socket-group", NULL, FLAG_STRING, &o->socket_group, "",
          "group, by name or number, that may connect; empty: this user alone", NULL },
        { "config", "COFFER_CONFIG", FLAG_STRING, &o->config, "/etc/coffer/config.json",
          "pools and key services", NULL },
        { "keyd-socket", "COFFER_KEYD_SOCKET", FLAG_STRING, &o->keyd_socket,
          "/run/coffer/keyd.sock", "the socket of coffer-keyd", NULL },
        { "driver-name", "COFFER_DRIVER_NAME", FLAG_STRING, &o->driver_name, "csi.coffer.dev",
          "the CSI driver's name", NULL },
        { "node-id", "NODE_ID", FLAG_STRING, &o->node_id, "",
          "where the pools are (default: the host's name)", NULL },
        { "expand", NULL, FLAG_STRING, &o->expand, "controller",
          "who grows a volume; node: no EXPAND_VOLUME here", "controller|node" },
        MONITOR_FLAG(&o->http),
        LOG_LEVEL_FLAG(&o->log_level),
        LOG_FORMAT_FLAG(&o->log_format),
    };

    if (flags_daemon(&program, flags, ARRAY_SIZE(flags), argc, argv, ret_done, err) < 0)
        return -1;
    if (!*ret_done && o->endpoint[0] == '\0')
        return error_set(err, ERR_INVALID, "--endpoint (or CSI_ENDPOINT) is missing");
    return 0;
}

static int setup_names(struct controller *c, const struct options *o, struct error *err)
{
    const char *node_id = o->node_id;

    if (driver_node_id(&node_id, err) < 0)
        return -1;
    return controller_set_names(c, o->driver_name, node_id, err);
}

static int setup(struct controller *c, const struct options *o, struct config **config,
                 struct error *err)
{
    if (log_setup_by_name(o->log_level, o->log_format, err) < 0 || setup_names(c, o, err) < 0 ||
        keyd_socket_check(o->keyd_socket, err) < 0 || monitor_check(o->http, err) < 0 ||
        config_load(o->config, config, err) < 0 || pool_set_open(*config, &c->pools, err) < 0)
        return -1;
    c->locks = keylock_new();
    if (c->locks == NULL)
        return error_memory(err);
    c->config = *config;
    c->keyd_socket = o->keyd_socket;
    c->expand = strcmp(o->expand, "controller") == 0;
    c->sysfs_block = "/sys/class/block";
    return 0;
}

static int setup_socket(struct csi_server_options *to, const struct options *o, struct error *err)
{
    to->endpoint = o->endpoint;
    to->has_group = o->socket_group[0] != '\0';
    if (to->has_group && peers_group_parse(o->socket_group, "/etc", &to->group, err) < 0)
        return error_prefix(err, "--socket-group");
    return 0;
}

/* They are tried again by every call; say it once here. */
static void warn_of_missing_pools(const struct controller *c)
{
    for (size_t i = 0; i < c->pools->n; i++) {
        struct error err = ERROR_INIT;

        if (pool_ready(c->pools->pools[i], &err) < 0)
            log_warn("a pool is not there now", KV("pool", c->pools->pools[i]->config->name),
                     KV("error", err.msg));
    }
}

/* What this process is made of while it serves. */
struct daemon {
    struct controller *controller;
    struct csi_server *server;
    struct csi_server_options options;
    struct pool_sampler *sampler;
    struct monitor monitor;
};

static void on_usr1(void *ctx)
{
    struct daemon *d = ctx;

    controller_log_counters(d->controller);
}

static bool healthy(void *ctx UNUSED, struct strbuf *why)
{
    return csi_servers_healthy(why);
}

static void write_metrics(void *ctx, struct metrics *m)
{
    struct daemon *d = ctx;

    csi_stats_write(m);
    controller_write_counters(d->controller, m);
    pool_sampler_write(d->sampler, m);
}

static int start_monitor(struct daemon *d, struct error *err)
{
    static struct thread_round round = { .run = pool_sampler_round,
                                         .period_ms = SAMPLER_PERIOD_MS };

    if (d->monitor.listener < 0)
        return 0;
    d->monitor.program = "coffer-controller";
    d->monitor.healthy = healthy;
    d->monitor.metrics = write_metrics;
    d->monitor.ctx = d;
    if (pool_sampler_new(d->controller->pools, true, &d->sampler, err) < 0 ||
        monitor_start(&d->monitor, NULL, err) < 0)
        return -1;
    round.ctx = d->sampler;
    return thread_start_rounds(&round, "the rounds for --http", err);
}

static int serve(struct daemon *d, const struct options *o, struct error *err)
{
    struct controller *c = d->controller;
    const struct csi_service service = { .identity = &controller_identity_ops,
                                         .controller = &controller_ops,
                                         .node = &controller_node_ops,
                                         .ctx = c };
    const struct csi_server_hooks hooks = { .on_usr1 = on_usr1, .ctx = d };

    csi_server_init();
    if (csi_server_start(&d->options, &service, &d->server, err) < 0 || start_monitor(d, err) < 0)
        return -1;
    log_info("coffer-controller serves", KV("version", COFFER_VERSION),
             KV("driver", c->driver_name), KV("node", c->node_id), KV("endpoint", o->endpoint),
             KV("pools", c->pools->n), KV("http", o->http));
    warn_of_missing_pools(c);
    if (csi_server_run(&d->server, 1, &hooks) < 0)
        return error_set(err, ERR_INTERNAL, "the server did not end as it should");
    return 0;
}

int main(int argc, char **argv)
{
    static struct controller c;
    static struct daemon daemon = { .controller = &c };
    struct options o = { .endpoint = "" };
    struct config *config = NULL;
    struct error err = ERROR_INIT;
    bool done = false;

    (void)umask(077);
    if (parse_options(&o, argc, argv, &done, &err) < 0)
        return flags_usage_error(&program, &err);
    if (done)
        return 0;
    if (setup(&c, &o, &config, &err) < 0 || setup_socket(&daemon.options, &o, &err) < 0)
        return flags_usage_error(&program, &err);
    if (monitor_listen(&daemon.monitor, o.http, &err) < 0 || serve(&daemon, &o, &err) < 0) {
        log_error("coffer-controller ends", KV("error", err.msg));
        csi_server_exit(1);
    }
    log_info("coffer-controller ends");
    csi_server_exit(0); /* frees nothing: the threads of --http may be at work */
}

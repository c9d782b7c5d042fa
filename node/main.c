/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coffer-node: CSI Identity and Node on one socket, coffer.v1.NodeAdmin on another that only root
 * can open, and on request what coffer-scheduler may ask on a third. Root with CAP_SYS_ADMIN and no
 * network; it never sees a key.
 */
#include "common/base.h"
#include "node/node.h"

#include "common/flags.h"
#include "common/log.h"
#include "common/monitor.h"
#include "common/peers.h"
#include "common/secret.h"
#include "common/thread.h"
#include "csi/endpoint.h"
#include "csi/keeper.h"
#include "csi/server.h"
#include "csi/stats.h"
#include "keyd/client.h"
#include "node/metrics.h"
#include "node/registration.h"
#include "node/scheduler.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

struct options {
    const char *endpoint, *admin_endpoint, *config, *keyd_socket, *crypt_helper, *device_dir;
    const char *driver_name, *node_id, *expand, *log_level, *log_format;
    const char *registration, *registration_endpoint, *http;
    const char *scheduler_endpoint, *scheduler_group, *scheduler_directory;
    bool host_network;
};

static const struct flags_program program = { "coffer-node", "usage: coffer-node [flags]" };

static int parse_options(struct options *o, int argc, char **argv, bool *ret_done,
                         struct error *err)
{
    const struct flag flags[] = {
        { "endpoint", "CSI_ENDPOINT", FLAG_STRING, &o->endpoint, "unix:///run/coffer/csi.sock",
          "CSI socket", NULL },
        { "admin-endpoint", NULL, FLAG_STRING, &o->admin_endpoint, "unix:///run/coffer/admin.sock",
          "socket of coffer.v1.NodeAdmin, for root only", NULL },
        { "config", "COFFER_CONFIG", FLAG_STRING, &o->config, "/etc/coffer/config.json",
          "pools and key services", NULL },
        { "keyd-socket", "COFFER_KEYD_SOCKET", FLAG_STRING, &o->keyd_socket,
          "/run/coffer/keyd.sock", "socket of coffer-keyd", NULL },
        { "crypt-helper", NULL, FLAG_STRING, &o->crypt_helper, "/usr/libexec/coffer/coffer-crypt",
          "absolute path of coffer-crypt", NULL },
        { "device-dir", NULL, FLAG_STRING, &o->device_dir, "/dev/coffer",
          "our own device nodes, on a file system that allows them", NULL },
        { "driver-name", "COFFER_DRIVER_NAME", FLAG_STRING, &o->driver_name, "csi.coffer.dev",
          "CSI driver name", NULL },
        { "node-id", "NODE_ID", FLAG_STRING, &o->node_id, "", "this node; default: the host's name",
          NULL },
        { "expand", NULL, FLAG_STRING, &o->expand, "controller", "who grows a volume's image",
          "controller|node" },
        { "registration", NULL, FLAG_STRING, &o->registration, "",
          "socket to make in kubelet's directory of plugins; empty: doesn't register", NULL },
        { "registration-endpoint", NULL, FLAG_STRING, &o->registration_endpoint, "",
          "the CSI socket as kubelet sees it (default: as --endpoint says)", NULL },
        { "scheduler-endpoint", NULL, FLAG_STRING, &o->scheduler_endpoint, "",
          "socket for coffer-scheduler; empty: none", NULL },
        { "scheduler-group", NULL, FLAG_STRING, &o->scheduler_group, "",
          "group, by name or number, that may connect to it; empty: root alone", NULL },
        { "scheduler-directory", NULL, FLAG_STRING, &o->scheduler_directory, "/run/coffer/clouds",
          "where the scheduler's volumes are shown; root's", NULL },
        { "host-network", NULL, FLAG_BOOL, &o->host_network, "false",
          "stay in the network namespace it was started in", NULL },
        MONITOR_FLAG(&o->http),
        LOG_LEVEL_FLAG(&o->log_level),
        LOG_FORMAT_FLAG(&o->log_format),
    };

    return flags_daemon(&program, flags, ARRAY_SIZE(flags), argc, argv, ret_done, err);
}

static int name_node(struct node *node, const struct options *o, struct error *err)
{
    node->driver_name = o->driver_name;
    node->node_id = o->node_id;
    if (driver_node_id(&node->node_id, err) < 0)
        return -1;
    return driver_names_check(node->driver_name, node->node_id, node->topology_key, err);
}

/* Owns nothing but memory that lives as long as the process. */
static int setup_node(struct node *node, const struct options *o, struct error *err)
{
    struct config *config = NULL;

    if (o->crypt_helper[0] != '/')
        return error_set(err, ERR_INVALID, "--crypt-helper '%s' must be an absolute path",
                         o->crypt_helper);
    if (keyd_socket_check(o->keyd_socket, err) < 0 || name_node(node, o, err) < 0 ||
        config_load(o->config, &config, err) < 0)
        return -1;
    node->config = config;
    node->keyd_socket = o->keyd_socket;
    node->crypt.helper = o->crypt_helper;
    node->device_dir = o->device_dir;
    node->expand_on_node = strcmp(o->expand, "node") == 0;
    node->locks = keylock_new();
    if (node->locks == NULL)
        return error_memory(err);
    return pool_set_open(config, &node->pools, err);
}

/* The node talks to unix sockets only; an empty network namespace makes that a fact. */
static int drop_network(const struct options *o, struct error *err)
{
    if (o->host_network || unshare(CLONE_NEWNET) == 0)
        return 0;
    return error_errno(err, errno, "leave the network (needs root; --host-network stays in it)");
}

/* What this process is made of while it serves. */
struct daemon {
    struct node *node;
    struct registration registration;
    struct csi_keeper keeper; /* of the registration socket */
    struct csi_server *servers[3];
    size_t n_servers;
    struct scheduler_service scheduler;
    struct csi_server_options scheduler_options; /* endpoint "": there is none */
    struct node_metrics metrics;
    struct monitor monitor;
};

static int setup_registration(struct daemon *d, const struct options *o, struct error *err)
{
    static struct endpoint csi;
    struct registration *r = &d->registration;

    if (o->registration[0] == '\0' && o->registration_endpoint[0] != '\0')
        return error_set(err, ERR_INVALID, "--registration-endpoint without --registration");
    if (o->registration[0] == '\0')
        return 0;
    if (endpoint_parse(o->endpoint, &csi, err) < 0)
        return -1;
    r->driver_name = d->node->driver_name;
    r->endpoint = o->registration_endpoint[0] != '\0' ? o->registration_endpoint : csi.path;
    r->end = csi_server_end;
    d->keeper.options = (struct csi_server_options){ .endpoint = o->registration, .workers = 1 };
    d->keeper.service = (struct csi_service){ .registration = &registration_ops, .ctx = r };
    return registration_check(o->registration, r->endpoint, err);
}

static int setup_scheduler(struct daemon *d, const struct options *o, struct error *err)
{
    struct csi_server_options *to = &d->scheduler_options;

    to->endpoint = o->scheduler_endpoint;
    if (to->endpoint[0] == '\0')
        return o->scheduler_group[0] == '\0' ? 0
                                             : error_set(err, ERR_INVALID,
                                                         "--scheduler-group without "
                                                         "--scheduler-endpoint");
    d->scheduler =
        (struct scheduler_service){ .node = d->node, .directory = o->scheduler_directory };
    to->has_group = o->scheduler_group[0] != '\0';
    if (to->has_group && peers_group_parse(o->scheduler_group, "/etc", &to->group, err) < 0)
        return error_prefix(err, "--scheduler-group");
    return scheduler_directory_check(o->scheduler_directory, err);
}

static bool healthy(void *ctx UNUSED, struct strbuf *why)
{
    return csi_servers_healthy(why);
}

static void write_metrics(void *ctx, struct metrics *m)
{
    struct daemon *d = ctx;

    csi_stats_write(m);
    csi_stats_write_phases(m);
    node_metrics_write(&d->metrics, m);
}

/* When the servers run. */
static int start_monitor(struct daemon *d, bool registers, struct error *err)
{
    static struct thread_round round = { .run = node_metrics_round,
                                         .period_ms = SAMPLER_PERIOD_MS };

    if (d->monitor.listener < 0)
        return 0;
    d->monitor.program = "coffer-node";
    d->monitor.healthy = healthy;
    d->monitor.metrics = write_metrics;
    d->monitor.ctx = d;
    round.ctx = &d->metrics;
    if (node_metrics_init(&d->metrics, d->node, registers ? &d->registration : NULL, err) < 0 ||
        monitor_start(&d->monitor, NULL, err) < 0)
        return -1;
    return thread_start_rounds(&round, "the rounds for --http", err);
}

static void on_usr1(void *ctx)
{
    struct daemon *d = ctx;

    node_log_counters(d->node);
}

static void on_tick(void *ctx)
{
    struct daemon *d = ctx;

    csi_keeper_tick(&d->keeper);
}

/* kubelet must not come any more: the driver is gone for it before calls are refused. */
static void on_stop(void *ctx)
{
    struct daemon *d = ctx;

    (void)csi_keeper_stop(&d->keeper);
}

static int run(struct daemon *d, const struct options *o, struct error *err)
{
    const bool registers = o->registration[0] != '\0';
    const struct csi_server_hooks hooks = {
        .on_usr1 = on_usr1, .on_tick = registers ? on_tick : NULL, .on_stop = on_stop, .ctx = d
    };

    if (start_monitor(d, registers, err) < 0 ||
        (registers && csi_keeper_start(&d->keeper, err) < 0))
        return -1;
    log_info("coffer-node serves", KV("version", COFFER_VERSION), KV("endpoint", o->endpoint),
             KV("node_id", d->node->node_id), KV("expand", o->expand),
             KV("registration", o->registration), KV("http", o->http));
    if (csi_server_run(d->servers, d->n_servers, &hooks) < 0)
        return error_set(err, ERR_INTERNAL, "the servers did not end as they should");
    if (atomic_load(&d->registration.refused))
        return error_set(err, ERR_UNAVAILABLE, "kubelet refused to register the driver");
    return 0;
}

static int start_server(struct daemon *d, const struct csi_server_options *o,
                        const struct csi_service *service, struct error *err)
{
    if (csi_server_start(o, service, &d->servers[d->n_servers], err) < 0)
        return -1;
    d->n_servers++;
    return 0;
}

static int start_scheduler(struct daemon *d, struct error *err)
{
    const struct csi_service service = { .identity = &scheduler_identity_ops,
                                         .node = &scheduler_node_ops,
                                         .admin = &scheduler_admin_ops,
                                         .ctx = &d->scheduler };

    if (d->scheduler_options.endpoint[0] == '\0')
        return 0;
    if (scheduler_directory_make(d->scheduler.directory, err) < 0 ||
        start_server(d, &d->scheduler_options, &service, err) < 0)
        return -1;
    log_info("serves coffer-scheduler", KV("endpoint", d->scheduler_options.endpoint),
             KV("directory", d->scheduler.directory));
    return 0;
}

static int serve(struct daemon *d, const struct options *o, struct error *err)
{
    struct node *node = d->node;
    const struct csi_service csi = { .identity = &node_identity_ops,
                                     .node = &node_ops,
                                     .ctx = node };
    /* Identity here too: cofferctl doctor asks whether it answers */
    const struct csi_service admin = { .identity = &node_identity_ops,
                                       .admin = &node_admin_ops,
                                       .ctx = node };
    const struct csi_server_options csi_options = { .endpoint = o->endpoint };
    const struct csi_server_options admin_options = { .endpoint = o->admin_endpoint, .workers = 2 };

    csi_server_init();
    if (start_server(d, &csi_options, &csi, err) < 0 ||
        start_server(d, &admin_options, &admin, err) < 0 || start_scheduler(d, err) < 0)
        return -1;
    return run(d, o, err);
}

int main(int argc, char **argv)
{
    static struct node node;
    static struct daemon daemon = { .node = &node };
    struct options o = { .endpoint = NULL };
    struct error err = ERROR_INIT;
    bool done = false;

    umask(0077);
    (void)signal(SIGCHLD, SIG_DFL); /* ignored (inherited) it would hide how a child ended */
    if (parse_options(&o, argc, argv, &done, &err) < 0)
        return flags_usage_error(&program, &err);
    if (done)
        return 0;
    if (log_setup_by_name(o.log_level, o.log_format, &err) < 0 || setup_node(&node, &o, &err) < 0 ||
        setup_registration(&daemon, &o, &err) < 0 || setup_scheduler(&daemon, &o, &err) < 0 ||
        monitor_check(o.http, &err) < 0)
        return flags_usage_error(&program, &err);
    if (secret_harden_process(&err) < 0 || monitor_listen(&daemon.monitor, o.http, &err) < 0 ||
        drop_network(&o, &err) < 0 || serve(&daemon, &o, &err) < 0) {
        log_error("coffer-node can't serve", KV("error", err.msg));
        csi_server_exit(1);
    }
    csi_server_exit(0);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* coffer-keyd: the only process that mints and unwraps storage keys (ARCHITECTURE.md,
 * docs/PROTOCOL-keyd.md). */
#include "common/base.h"

#include "common/fault.h"
#include "common/flags.h"
#include "common/log.h"
#include "common/monitor.h"
#include "common/secret.h"
#include "keyd/kms.h"
#include "keyd/lifeline.h"
#include "common/listen.h"
#include "keyd/metrics.h"
#include "keyd/ops.h"
#include "keyd/rights.h"
#include "keyd/sandbox.h"
#include "keyd/server.h"
#include "vault/client.h"
#include "volume/config.h"

#include <sys/socket.h>

struct options {
    const char *config, *socket, *allow, *vault_role, *http, *log_level, *log_format;
    struct flag_strings peers;
    bool insecure_file_kms;
    uint64_t idle_ms, lifeline;
    struct rights rights;
};

static struct options options;

static const struct flags_program program = {
    "coffer-keyd", "usage: coffer-keyd --peer USER:GROUP --allow OPS [flags]"
};
static const struct flag flags[] = {
    { "config", "COFFER_CONFIG", FLAG_STRING, &options.config, "/etc/coffer/config.json",
      "file of pools and key services", NULL },
    { "socket", "COFFER_KEYD_SOCKET", FLAG_STRING, &options.socket, "/run/coffer/keyd.sock",
      "unix socket to serve; its directory must exist", NULL },
    { "peer", NULL, FLAG_STRINGS, &options.peers, NULL,
      "USER:GROUP[:OPS] that may connect, by number or name; OPS: of the operations of --allow "
      "it may ask for these alone; repeatable, at least one",
      NULL },
    { "allow", NULL, FLAG_STRING, &options.allow, NULL,
      "operations to answer: MINT, UNWRAP, DESTROY, WRAP_FOR, UNWRAP_CLIENT, SERVER_KEY, joined by "
      "commas; STATUS is always answered",
      NULL },
    { "vault-role", NULL, FLAG_STRING, &options.vault_role, "",
      "role to log in to Vault as, by kubernetes or jwt, instead of the configuration's", NULL },
    { "insecure-file-kms", NULL, FLAG_BOOL, &options.insecure_file_kms, "false",
      "accept key services whose master key is a file (development only)", NULL },
    { "idle-timeout-ms", NULL, FLAG_UINT, &options.idle_ms, "10000",
      "drop a connection that is silent for so long", NULL },
    { "lifeline", NULL, FLAG_UINT, &options.lifeline, "0",
      "descriptor of a pipe: stop when its other end is closed; 0: none", NULL },
    MONITOR_FLAG(&options.http),
    LOG_LEVEL_FLAG(&options.log_level),
    LOG_FORMAT_FLAG(&options.log_format),
};

static int check_options(struct options *o, bool allowed[WIRE_OP_LIMIT], struct error *err)
{
    if (o->allow == NULL)
        return error_set(
            err, ERR_INVALID,
            "--allow is needed: the operations to answer (MINT, UNWRAP, DESTROY, WRAP_FOR, "
            "UNWRAP_CLIENT, SERVER_KEY)");
    if (o->idle_ms == 0)
        return error_set(err, ERR_INVALID, "--idle-timeout-ms must be more than 0");
    if (rights_parse(&o->peers, "/etc", &o->rights, err) < 0)
        return -1;
    if (ops_allow_parse(o->allow, allowed, err) < 0)
        return error_prefix(err, "--allow");
    if (monitor_check(o->http, err) < 0)
        return -1;
    return log_setup_by_name(o->log_level, o->log_format, err);
}

static void log_start(const struct options *o, const struct kms_set *kms)
{
    for (size_t i = 0; i < kms->n; i++) {
        if (kms->items[i].driver->insecure)
            log_warn("INSECURE key service: its master key is a plain file; for development only",
                     KV("kms", kms->items[i].name), KV("kind", kms->items[i].driver->kind));
    }
    log_info("coffer-keyd is ready", KV("version", COFFER_VERSION), KV("socket", o->socket),
             KV("allow", o->allow), KV("peers", o->rights.peers.n),
             KV("insecure", kms_set_insecure(kms)));
}

/* One configuration for all processes: which of Vault's roles this one has is its own affair. */
static int load_config(const struct options *o, struct config **ret, struct error *err)
{
    AUTO_CONFIG struct config *config = NULL;
    if (config_load(o->config, &config, err) < 0)
        return -1;
    for (size_t i = 0; o->vault_role[0] != '\0' && i < config->n_kms; i++) {
        if (kms_config_set_role(&config->kms[i], o->vault_role, err) < 0)
            return error_prefix(err, "--vault-role");
    }
    *ret = TAKE_PTR(config);
    return 0;
}

static void write_metrics(void *ctx, struct metrics *m)
{
    keyd_metrics_write(ctx, m);
}

static int serve(const struct options *o, struct keyd *keyd, struct error *err)
{
    AUTO_CONFIG struct config *config = NULL;
    AUTO_EVENT_LOOP struct event_loop *loop = NULL;
    AUTO_KMS_SET struct kms_set *kms = NULL;
    if (event_loop_new(&loop, err) < 0 || load_config(o, &config, err) < 0)
        return -1;
    keyd->loop = loop;
    const struct kms_env env = { .loop = loop,
                                 .allow_insecure = o->insecure_file_kms,
                                 .mint = keyd->allowed[WIRE_MINT],
                                 .unwrap =
                                     keyd->allowed[WIRE_UNWRAP] || keyd->allowed[WIRE_WRAP_FOR],
                                 .destroy = keyd->allowed[WIRE_DESTROY],
                                 .unwrap_client = keyd->allowed[WIRE_UNWRAP_CLIENT],
                                 .server_key = keyd->allowed[WIRE_SERVER_KEY] };
    if (kms_set_open(config, &env, &kms, err) < 0)
        return -1;
    keyd->kms = kms;
    AUTO_LIFELINE struct lifeline lifeline = LIFELINE_INIT;
    AUTO_LISTENER struct listener listener = LISTENER_INIT;
    if (listener_open(o->socket, SOCK_SEQPACKET, LISTEN_OWN_GROUP, &listener, err) < 0)
        return -1;
    AUTO_SERVER struct server *server = NULL;
    const struct server_options so = { .loop = loop,
                                       .listener = &listener,
                                       .rights = &o->rights,
                                       .keyd = keyd,
                                       .idle_ms = o->idle_ms };
    struct monitor monitor = { .program = "coffer-keyd", .metrics = write_metrics, .ctx = keyd };
    if (server_new(&so, &server, err) < 0 || monitor_listen(&monitor, o->http, err) < 0 ||
        monitor_start(&monitor, loop, err) < 0 ||
        lifeline_watch(&lifeline, loop, o->lifeline, err) < 0)
        return -1;
    if (sandbox_enter(kms_set_network(kms), err) < 0)
        return -1;
    log_start(o, kms);
    if (server_run(server, err) < 0)
        return -1;
    kms_set_stop(kms, loop);
    if (keyd->broken)
        return error_set(err, ERR_UNAVAILABLE,
                         "a request failed, and memory lacked before: libcrypto may work no more, "
                         "a new process will");
    log_info("coffer-keyd stops");
    return 0;
}

int main(int argc, char **argv)
{
    struct error err = ERROR_INIT;
    struct keyd keyd = { .text = STRBUF_INIT(KEYD_TEXT_MAX) };
    bool done = false;

    if (secret_harden_process(&err) < 0 || vault_global_init(&err) < 0 ||
        flags_daemon(&program, flags, ARRAY_SIZE(flags), argc, argv, &done, &err) < 0)
        return flags_usage_error(&program, &err);
    if (done)
        return 0;
    if (check_options(&options, keyd.allowed, &err) < 0)
        return flags_usage_error(&program, &err);
    int r = serve(&options, &keyd, &err);
    if (r < 0)
        log_error("coffer-keyd can't go on", KV("error", err.msg));
    strbuf_release(&keyd.text);
    FAULT_POINT("keyd:stopped");
    return r < 0 ? 1 : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* main.c: coffer-scheduler. Command line, configuration, the driver; then HTTP until SIGTERM. */
#include "common/base.h"
#include "scheduler/server.h"

#include "common/deadline.h"
#include "common/flags.h"
#include "common/log.h"
#include "common/monitor.h"
#include "common/text.h"
#include "http/client.h"
#include "keyd/client.h"
#include "scheduler/broken.h"
#include "scheduler/metrics.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define DRAIN_MS    20000u
#define DESCRIPTORS 16384u

struct options {
    struct server_options server;
    const char *config, *keyd_socket, *kms, *http, *log_level, *log_format;
    uint64_t request_seconds;
};

static const struct flags_program program = { "coffer-scheduler",
                                              "usage: coffer-scheduler [flags]" };

static int parse_options(struct options *o, int argc, char **argv, bool *ret_done,
                         struct error *err)
{
    struct server_options *s = &o->server;
    const struct flag flags[] = {
        { "config", NULL, FLAG_STRING, &o->config, "/etc/coffer/scheduler.json",
          "the driver, its options, what clouds are made of", NULL },
        { "listen", NULL, FLAG_STRING, &s->listen, "",
          "ADDRESS:PORT of the API, by TLS; empty: none", NULL },
        { "tls-certificate", NULL, FLAG_STRING, &s->certificate.chain, "",
          "PEM file for --listen: the certificate, and those above it", NULL },
        { "tls-key", NULL, FLAG_STRING, &s->certificate.key, "",
          "PEM file for --listen: its private key", NULL },
        { "listen-unix", NULL, FLAG_STRING, &s->listen_unix, "",
          "socket of the API without TLS, for a proxy; empty: none", NULL },
        { "socket-group", NULL, FLAG_STRING, &s->socket_group, "",
          "who may open --listen-unix, name or number; empty: the process's own user", NULL },
        { "admin-socket", NULL, FLAG_STRING, &s->admin_socket, "",
          "socket of cofferctl vm list and explain, for the process's user and root; empty: none",
          NULL },
        { "keyd-socket", "COFFER_KEYD_SOCKET", FLAG_STRING, &o->keyd_socket,
          "/run/coffer/keyd.sock", "socket of coffer-keyd", NULL },
        { "kms", NULL, FLAG_STRING, &o->kms, "vault",
          "the key service whose public key sessions are encrypted for", NULL },
        { "request-seconds", NULL, FLAG_UINT, &o->request_seconds, "30",
          "every request is answered within so many seconds", NULL },
        MONITOR_FLAG(&o->http),
        LOG_LEVEL_FLAG(&o->log_level),
        LOG_FORMAT_FLAG(&o->log_format),
    };

    if (flags_daemon(&program, flags, ARRAY_SIZE(flags), argc, argv, ret_done, err) < 0)
        return -1;
    if (*ret_done)
        return 0;
    if (o->request_seconds < 1 || o->request_seconds > 3600)
        return error_set(err, ERR_INVALID, "--request-seconds must be 1 to 3600");
    return 0;
}

/* SIGTERM and SIGINT are waited for; a client that is gone is no reason to end. */
static sigset_t block_signals(void)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    return set;
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= DESCRIPTORS)
        return;
    limit.rlim_cur = limit.rlim_max < DESCRIPTORS ? limit.rlim_max : DESCRIPTORS;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int setup(struct scheduler *s, const struct options *o, struct error *err)
{
    struct scheduler_config *config = NULL;

    if (log_setup_by_name(o->log_level, o->log_format, err) < 0 ||
        keyd_socket_check(o->keyd_socket, err) < 0 || monitor_check(o->http, err) < 0 ||
        server_check(&o->server, err) < 0 || scheduler_config_load(o->config, &config, err) < 0)
        return -1;
    config->keyd_socket = o->keyd_socket;
    config->kms = o->kms;
    s->request_ms = o->request_seconds * 1000;
    return scheduler_init(s, config, err); /* both live as long as the process */
}

static int serve(struct scheduler *s, const struct options *o, struct error *err)
{
    static struct monitor monitor = { .program = "coffer-scheduler",
                                      .healthy = scheduler_healthy,
                                      .metrics = scheduler_write_metrics };
    const sigset_t set = block_signals();
    int number = 0;

    monitor.ctx = s;
    if (monitor_listen(&monitor, o->http, err) < 0 || scheduler_start(s, err) < 0 ||
        server_start(s, &o->server, err) < 0 || monitor_start(&monitor, NULL, err) < 0)
        return -1;
    log_info("coffer-scheduler serves", KV("version", COFFER_VERSION),
             KV("driver", s->config->driver->name), KV("listen", o->server.listen),
             KV("listen_unix", o->server.listen_unix), KV("http", o->http));
    text_forget_start();
    (void)sigwait(&set, &number);
    server_quiesce();
    if (!scheduler_drain(s, deadline_in(DRAIN_MS)))
        log_warn("operations still run: what they leave half done is taken up at the next start");
    return 0;
}

int main(int argc, char **argv)
{
    static struct scheduler s;
    struct options o = { .config = "" };
    struct error err = ERROR_INIT;
    bool done = false;

    (void)umask(077);
    (void)mallopt(M_ARENA_MAX, 1);
    if (parse_options(&o, argc, argv, &done, &err) < 0)
        return flags_usage_error(&program, &err);
    if (done)
        return 0;
    /* sessions: nobody dumps or traces this process */
    if (secret_harden_process(&err) < 0 || http_global_init(&err) < 0 || setup(&s, &o, &err) < 0)
        return flags_usage_error(&program, &err);
    raise_descriptor_limit();
    if (serve(&s, &o, &err) < 0) {
        log_error("coffer-scheduler ends", KV("error", err.msg));
        _exit(1);
    }
    log_info("coffer-scheduler ends");
    _exit(scheduler_is_broken() ? 1 : 0); /* frees nothing: threads are at work */
}

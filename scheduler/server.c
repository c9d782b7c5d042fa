/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/server.h"

#include "common/httpd.h"
#include "common/listen.h"
#include "common/log.h"
#include "common/peers.h"
#include "common/thread.h"
#include "scheduler/certificate.h"
#include "scheduler/exchange.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define CONNECTION_MEMORY ((size_t)40 << 10) /* over 32 KiB it is a mapping, wiped by its end */
#define TICK_MS           250u
#define CIPHERS           "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

static struct server servers[3]; /* for the rest of the process's life */
static size_t n_servers;

static void tick(void *ctx)
{
    struct scheduler *s = ctx;

    exchange_end_overdue(s);
    for (size_t i = 0; i < n_servers; i++) {
        size_t n = connections_cut(&servers[i].connections, s->request_ms,
                                   SERVER_CONNECTIONS - SERVER_CONNECTIONS / 10);

        atomic_fetch_add(&s->counters.cut, n);
    }
}

static void PRINTF_LIKE(2, 0) log_line(void *cls UNUSED, const char *format, va_list args)
{
    char text[256];

    if (!log_enabled(LOG_LEVEL_DEBUG))
        return;
    (void)vsnprintf(text, sizeof(text), format, args);
    log_debug("libmicrohttpd", KV("text", (const char *)text));
}

/* ---- listeners ---- */

/* For MHD_OptionItem, which has one kind of pointer. */
static void *option(const char *text, gnutls_certificate_retrieve_function2 *f)
{
    union {
        const char *text;
        gnutls_certificate_retrieve_function2 *f;
        void *out;
    } u = { .text = text };

    if (f != NULL)
        u.f = f;
    return u.out;
}

static struct certificate *certificate; /* of the one TCP listener */

static int show(gnutls_session_t session UNUSED, const gnutls_datum_t *authorities UNUSED,
                int n_authorities UNUSED, const gnutls_pk_algorithm_t *algorithms UNUSED,
                int n_algorithms UNUSED, gnutls_pcert_st **chain, unsigned int *n,
                gnutls_privkey_t *key)
{
    certificate_show(certificate, chain, n, key);
    return 0;
}

static int start_daemon(struct scheduler *s, enum api_door door, int fd, bool tls,
                        struct error *err)
{
    struct server *server = &servers[n_servers];
    const unsigned int flags =
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | (tls ? MHD_USE_TLS : 0U);
    struct MHD_OptionItem more[] = {
        { MHD_OPTION_HTTPS_CERT_CALLBACK, 0, option(NULL, show) },
        { MHD_OPTION_HTTPS_PRIORITIES, 0, option(CIPHERS, NULL) },
        { MHD_OPTION_END, 0, NULL },
    };
    const struct MHD_OptionItem none = { MHD_OPTION_END, 0, NULL };

    server->s = s;
    server->door = door;
    (void)pthread_mutex_init(&server->connections.lock, NULL);
    server->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, exchange_handle, server, MHD_OPTION_EXTERNAL_LOGGER, log_line, NULL,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_URI_LOG_CALLBACK, exchange_begin, server,
        MHD_OPTION_NOTIFY_COMPLETED, exchange_end, server, MHD_OPTION_NOTIFY_CONNECTION,
        exchange_connection, server, MHD_OPTION_CONNECTION_LIMIT, SERVER_CONNECTIONS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned int)(s->request_ms / 1000), MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY,
        tls ? more : &none, MHD_OPTION_END);
    if (server->daemon == NULL)
        return error_set(err, ERR_INTERNAL,
                         "the HTTP server doesn't start (see --log-level debug)");
    n_servers++;
    return 0;
}

static void renew(void *ctx)
{
    struct scheduler *s = ctx;

    (void)certificate_renew(certificate);
    atomic_store(&s->counters.certificate_expires, certificate_expires(certificate));
}

static int start_tcp(struct scheduler *s, const struct server_options *o, struct error *err)
{
    static struct thread_round round = { .run = renew, .period_ms = CERTIFICATE_MS };
    AUTO_CLOSE int fd = -1;

    if (o->listen[0] == '\0')
        return 0;
    /* a connection is cut by the tick that finds it at its request for longer */
    if (certificate_open(&o->certificate, s->request_ms + 4 * (uint64_t)TICK_MS, &certificate,
                         err) < 0 ||
        httpd_listen(o->listen, &fd, err) < 0)
        return -1;
    if (start_daemon(s, DOOR_PUBLIC, fd, true, err) < 0)
        return error_prefix(err, "--listen '%s'", o->listen);
    (void)TAKE_FD(fd);
    round.ctx = s;
    return thread_start_rounds(&round, "the certificate", err);
}

static struct listener listeners[2]; /* their locks are held as long as the process lives */
static size_t n_listeners;

static int start_unix(struct scheduler *s, enum api_door door, const char *path, gid_t group,
                      struct error *err)
{
    struct listener listener = LISTENER_INIT;

    if (path[0] == '\0')
        return 0;
    if (listener_open(path, SOCK_STREAM, group, &listener, err) < 0)
        return -1;
    listeners[n_listeners++] = listener;
    if (group == LISTEN_OWN_GROUP && chmod(path, 0600) < 0)
        return error_errno(err, errno, "set the mode of '%s'", path);
    return start_daemon(s, door, listener.fd, false, err);
}

static int check_path(const char *flag, const char *path, struct error *err)
{
    struct sockaddr_un un;

    if (path[0] == '\0')
        return 0;
    if (path[0] != '/')
        return error_set(err, ERR_INVALID, "--%s '%s' must be an absolute path", flag, path);
    if (strlen(path) >= sizeof(un.sun_path))
        return error_set(err, ERR_INVALID, "--%s '%s' is longer than %zu bytes", flag, path,
                         sizeof(un.sun_path) - 1);
    return 0;
}

static int find_group(const struct server_options *o, gid_t *ret, struct error *err)
{
    *ret = LISTEN_OWN_GROUP;
    if (o->socket_group[0] == '\0')
        return 0;
    if (peers_group_parse(o->socket_group, "/etc", ret, err) < 0)
        return error_prefix(err, "--socket-group");
    return 0;
}

static int check_tls(const struct server_options *o, struct error *err)
{
    const bool chain = o->certificate.chain[0] != '\0', key = o->certificate.key[0] != '\0';

    if (o->listen[0] == '\0' && (chain || key))
        return error_set(err, ERR_INVALID, "--tls-certificate and --tls-key are for --listen");
    if (o->listen[0] == '\0')
        return 0;
    if (!chain || !key)
        return error_set(err, ERR_INVALID,
                         "--listen needs --tls-certificate and --tls-key: there is no TCP without "
                         "TLS");
    return httpd_check(o->listen, err);
}

int server_check(const struct server_options *o, struct error *err)
{
    gid_t group;

    if (o->listen[0] == '\0' && o->listen_unix[0] == '\0')
        return error_set(err, ERR_INVALID, "--listen or --listen-unix is missing");
    if (check_tls(o, err) < 0 || check_path("listen-unix", o->listen_unix, err) < 0 ||
        check_path("admin-socket", o->admin_socket, err) < 0)
        return -1;
    return find_group(o, &group, err);
}

int server_start(struct scheduler *s, const struct server_options *o, struct error *err)
{
    static struct thread_round round = { .run = tick, .period_ms = TICK_MS };
    gid_t group;

    round.ctx = s;
    if (find_group(o, &group, err) < 0 ||
        start_unix(s, DOOR_ADMIN, o->admin_socket, LISTEN_OWN_GROUP, err) < 0 ||
        start_unix(s, DOOR_PUBLIC, o->listen_unix, group, err) < 0 || start_tcp(s, o, err) < 0)
        return -1;
    return thread_start_rounds(&round, "slow requests", err);
}

void server_quiesce(void)
{
    for (size_t i = 0; i < n_servers; i++)
        (void)MHD_quiesce_daemon(servers[i].daemon); /* the descriptors are ours again */
    while (n_listeners > 0)
        listener_close(&listeners[--n_listeners]);
}

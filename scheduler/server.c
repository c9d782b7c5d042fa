/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/server.h"

#include "common/fs.h"
#include "common/httpd.h"
#include "common/listen.h"
#include "common/log.h"
#include "common/peers.h"
#include "common/thread.h"
#include "common/wipe.h"
#include "scheduler/exchange.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define CONNECTION_MEMORY ((size_t)40 << 10) /* over 32 KiB it is a mapping, wiped by its end */
#define PEM_MAX           KIB(256)
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

/* A PEM file in memory that is wiped: GnuTLS makes a copy of its own. */
static int read_pem(const char *path, struct wipe_buffer *to, struct error *err)
{
    char chunk[4096];
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return error_errno(err, errno, "open '%s'", path);
    while ((n = read(fd, chunk, sizeof(chunk))) > 0) {
        if ((size_t)n > PEM_MAX - to->len)
            return error_set(err, ERR_INVALID, "'%s' is too long for a PEM file", path);
        if (wipe_buffer_add(to, chunk, (size_t)n, PEM_MAX) < 0)
            return error_memory(err);
    }
    explicit_bzero(chunk, sizeof(chunk));
    if (n < 0)
        return error_errno(err, errno, "read '%s'", path);
    return to->len > 0 ? 0 : error_set(err, ERR_INVALID, "'%s' is empty", path);
}

/* libmicrohttpd only reads them. */
static void *unconst(const char *text)
{
    union {
        const char *in;
        void *out;
    } u = { .in = text };

    return u.out;
}

static int start_daemon(struct scheduler *s, enum api_door door, int fd, const char *certificate,
                        const char *key, struct error *err)
{
    struct server *server = &servers[n_servers];
    const unsigned int flags =
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | (key != NULL ? MHD_USE_TLS : 0U);
    struct MHD_OptionItem tls[] = {
        { MHD_OPTION_HTTPS_MEM_KEY, 0, unconst(key) },
        { MHD_OPTION_HTTPS_MEM_CERT, 0, unconst(certificate) },
        { MHD_OPTION_HTTPS_PRIORITIES, 0, unconst(CIPHERS) },
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
        key != NULL ? tls : &none, MHD_OPTION_END);
    if (server->daemon == NULL)
        return error_set(err, ERR_INTERNAL,
                         "the HTTP server doesn't start (see --log-level debug)");
    n_servers++;
    return 0;
}

static int start_tcp(struct scheduler *s, const struct server_options *o, struct error *err)
{
    AUTO_WIPE_BUFFER struct wipe_buffer key = WIPE_BUFFER_INIT;
    AUTO_WIPE_BUFFER struct wipe_buffer certificate = WIPE_BUFFER_INIT;
    AUTO_CLOSE int fd = -1;

    if (o->listen[0] == '\0')
        return 0;
    if (read_pem(o->certificate, &certificate, err) < 0 || read_pem(o->key, &key, err) < 0 ||
        httpd_listen(o->listen, &fd, err) < 0)
        return -1;
    if (start_daemon(s, DOOR_PUBLIC, fd, certificate.bytes, key.bytes, err) < 0)
        return error_prefix(err, "--listen '%s'", o->listen);
    (void)TAKE_FD(fd);
    return 0;
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
    return start_daemon(s, door, listener.fd, NULL, NULL, err);
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
    bool files = o->certificate[0] != '\0' && o->key[0] != '\0';

    if (o->listen[0] == '\0' && (o->certificate[0] != '\0' || o->key[0] != '\0'))
        return error_set(err, ERR_INVALID, "--tls-certificate and --tls-key are for --listen");
    if (o->listen[0] == '\0')
        return 0;
    if (!files)
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

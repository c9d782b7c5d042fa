/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "csi/server.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/text.h"
#include "csi/call.h"
#include "csi/endpoint.h"
#include "csi/workers.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/log.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define WORKERS_MAX   32u
#define DRAIN_MS      20000u
#define CANCEL_MS     5000u /* how long cancelled calls may take to notice it */
#define RECEIVE_MAX   (4 << 20)
#define TICK_SECONDS  1
#define STUCK_MS      30000u
#define PULSES        8u /* more servers than a daemon has */
#define STREAMS_MAX   512
#define DESCRIPTORS   16384u
#define STACK_BYTES   (1u << 20)
#define IDENTITY_ONLY 1 /* bit set of compression algorithms: none */

struct csi_server {
    struct endpoint endpoint;
    struct endpoint bound; /* where the core made the socket: the same, or a hidden name */
    struct endpoint_id id; /* the published socket; zero until it is */
    bool publish_last;
    int lock_fd;
    struct csi_service service;
    grpc_server *grpc;
    grpc_completion_queue *cq;
    struct workers *workers;
    struct calls calls;
    uint64_t drain_ms;
    uint64_t drained_by; /* once it stops */
    pthread_t poller;
    struct pulse *pulse; /* the poller's; NULL: there are too many servers */

    struct cq_tag stop_tag;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stopped; /* the core has finished every call */
};

static atomic_bool listener_lost;
static bool initialised;

/* gRPC 1.51 stops listening for good after one accept that fails (no descriptor left, say), and
 * only its log tells. A server that nobody can reach must end, so that it is started again. */
static void watch_listener(const char *message)
{
    static const char *const ends[] = { "Failed accept4:", "Failed getpeername:" };
    for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
        if (strncmp(message, ends[i], strlen(ends[i])) != 0)
            continue;
        atomic_store(&listener_lost, true);
        csi_server_end();
    }
}

static void grpc_to_log(gpr_log_func_args *args)
{
    watch_listener(args->message);
    enum log_level level =
        args->severity == GPR_LOG_SEVERITY_ERROR ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG;
    if (!log_enabled(level))
        return;
    const struct log_kv kv = log_kv_str("text", args->message);
    log_write(level, args->file, args->line, "grpc", &kv, 1);
}

static sigset_t handled_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    return set;
}

/* Callers open a connection for every call, and each call has files of its own: the usual soft
 * limit of 1024 is near. Nothing here or in our children uses select(), which could not go beyond
 * it. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= DESCRIPTORS)
        return;
    limit.rlim_cur = limit.rlim_max < DESCRIPTORS ? limit.rlim_max : DESCRIPTORS;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* gRPC's threads and ours take the default. Of one of 8 MiB kernels before 6.7 make a huge page
 * when its first byte is used: 2 MiB of memory. */
static void take_small_stacks(void)
{
    pthread_attr_t attr;

    if (pthread_attr_init(&attr) != 0)
        return;
    if (pthread_attr_setstacksize(&attr, STACK_BYTES) == 0)
        (void)pthread_setattr_default_np(&attr);
    (void)pthread_attr_destroy(&attr);
}

void csi_server_init(void)
{
    sigset_t set = handled_signals();
    raise_descriptor_limit();
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    mallopt(M_ARENA_MAX, 1);
    take_small_stacks();
    (void)unsetenv("GRPC_TRACE"); /* its traces print message bytes */
    (void)unsetenv("GRPC_VERBOSITY");
    gpr_set_log_function(grpc_to_log);
    grpc_init();
    initialised = true;
}

/* ---- health ---- */

/* Apart from the servers, which come and go while somebody asks. */
static struct pulse {
    atomic_bool taken;
    _Atomic uint64_t busy_since; /* clock_ms(); 0: the poller waits for an event */
} pulses[PULSES];

static struct pulse *take_pulse(void)
{
    for (size_t i = 0; i < PULSES; i++) {
        if (!atomic_exchange(&pulses[i].taken, true))
            return &pulses[i];
    }
    return NULL;
}

static void give_pulse_back(struct pulse *p)
{
    if (p == NULL)
        return;
    atomic_store(&p->busy_since, 0);
    atomic_store(&p->taken, false);
}

static void set_busy(struct csi_server *s, uint64_t since)
{
    if (s->pulse != NULL)
        atomic_store_explicit(&s->pulse->busy_since, since, memory_order_relaxed);
}

bool csi_servers_healthy(struct strbuf *why)
{
    for (size_t i = 0; i < PULSES; i++) {
        uint64_t since = atomic_load_explicit(&pulses[i].busy_since, memory_order_relaxed);
        uint64_t now = clock_ms();
        if (since == 0 || now < since + STUCK_MS)
            continue;
        strbuf_addf(why, "a gRPC poller has been at work on one event for %llu s",
                    (unsigned long long)(now - since) / 1000);
        return false;
    }
    return true;
}

/* ---- start ---- */

/* One event; false at the queue's end. */
static bool poll_once(struct csi_server *s)
{
    grpc_event ev = grpc_completion_queue_next(s->cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    if (ev.type == GRPC_OP_COMPLETE) {
        const struct cq_tag *tag = ev.tag;
        set_busy(s, clock_ms());
        tag->fn(tag->owner, ev.success != 0);
        set_busy(s, 0);
    }
    return ev.type != GRPC_QUEUE_SHUTDOWN;
}

static void *poll_queue(void *arg)
{
    while (poll_once(arg))
        ;
    return NULL;
}

static void on_stopped(void *owner, bool ok)
{
    struct csi_server *s = owner;
    pthread_mutex_lock(&s->lock);
    s->stopped = true;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static grpc_arg int_arg(const char *key, int value)
{
    union {
        const char *in;
        char *out; /* the core's struct has no const; it only reads the key */
    } u = { .in = key };
    return (grpc_arg){ .type = GRPC_ARG_INTEGER, .key = u.out, .value.integer = value };
}

static void make_grpc(struct csi_server *s)
{
    grpc_arg list[] = {
        int_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, RECEIVE_MAX),
        int_arg(GRPC_ARG_MAX_CONCURRENT_STREAMS, STREAMS_MAX),
        int_arg(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, IDENTITY_ONLY),
        int_arg(GRPC_ARG_ENABLE_CHANNELZ, 0),
    };
    const grpc_channel_args args = { .num_args = ARRAY_SIZE(list), .args = list };
    s->grpc = grpc_server_create(&args, NULL);
    s->cq = grpc_completion_queue_create_for_next(NULL);
    grpc_server_register_completion_queue(s->grpc, s->cq, NULL);
}

/* Neither follows a link, should somebody else be able to put one there. */
static int give_to_group(const char *path, gid_t group, struct error *err)
{
    if (lchown(path, (uid_t)-1, group) < 0 ||
        fchmodat(AT_FDCWD, path, 0660, AT_SYMLINK_NOFOLLOW) < 0)
        return error_errno(err, errno, "give the socket '%s' to group %u", path, (unsigned)group);
    return 0;
}

static int bind_socket(struct csi_server *s, const struct csi_server_options *o, struct error *err)
{
    grpc_server_credentials *plain = grpc_insecure_server_credentials_create();
    mode_t old = umask(0177);
    int bound = grpc_server_add_http2_port(s->grpc, s->bound.target, plain);
    umask(old);
    grpc_server_credentials_release(plain);
    if (bound == 0)
        return error_set(err, ERR_UNAVAILABLE, "gRPC could not listen on '%s'", s->endpoint.path);
    return o->has_group ? give_to_group(s->bound.path, o->group, err) : 0;
}

/* What start made before there was a poller. */
static void undo_start(struct csi_server *s)
{
    if (s->grpc != NULL) {
        grpc_server_destroy(s->grpc);
        grpc_completion_queue_shutdown(s->cq);
        (void)poll_queue(s);
        grpc_completion_queue_destroy(s->cq);
        calls_release(&s->calls);
    }
    workers_free(s->workers);
    give_pulse_back(s->pulse);
    cleanup_close(&s->lock_fd);
    free(s);
}

static int listen_on(struct csi_server *s, const struct csi_server_options *o, struct error *err)
{
    s->bound = s->endpoint;
    if (endpoint_claim(&s->endpoint, &s->lock_fd, err) < 0 ||
        (s->publish_last && endpoint_hide(&s->endpoint, &s->bound, err) < 0))
        return -1;
    make_grpc(s);
    calls_init(&s->calls, s->grpc, s->cq, &s->service, s->workers);
    if (calls_register(&s->calls, err) < 0)
        return -1;
    return bind_socket(s, o, err);
}

static void remove_published(struct csi_server *s)
{
    if (!s->publish_last)
        return;
    endpoint_remove(&s->endpoint, &s->id);
    FAULT_POINT("csi:server:removed");
}

static void begin_stop(struct csi_server *s)
{
    s->drained_by = deadline_in(s->drain_ms);
    remove_published(s);
    calls_close(&s->calls);
    grpc_server_shutdown_and_notify(s->grpc, s->cq, &s->stop_tag);
}

static void init_state(struct csi_server *s)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&s->lock, NULL);
    s->stop_tag = (struct cq_tag){ on_stopped, s };
    s->pulse = take_pulse();
}

static int publish(struct csi_server *s, struct error *err)
{
    if (!s->publish_last)
        return 0;
    FAULT_POINT("csi:server:bound");
    if (endpoint_publish(&s->bound, &s->endpoint, &s->id, err) < 0)
        return -1;
    FAULT_POINT("csi:server:published");
    return 0;
}

int csi_server_start(const struct csi_server_options *o, const struct csi_service *service,
                     struct csi_server **ret, struct error *err)
{
    struct csi_server *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return error_memory(err);
    s->lock_fd = -1;
    s->service = *service;
    s->publish_last = o->publish_last;
    s->drain_ms = o->drain_ms > 0 ? o->drain_ms : DRAIN_MS;
    init_state(s);
    s->workers =
        workers_new(o->workers > 0 && o->workers < WORKERS_MAX ? o->workers : WORKERS_MAX, err);
    if (s->workers == NULL || endpoint_parse(o->endpoint, &s->endpoint, err) < 0 ||
        listen_on(s, o, err) < 0) {
        undo_start(s);
        return -1;
    }
    grpc_server_start(s->grpc);
    calls_open(&s->calls);
    int rc = pthread_create(&s->poller, NULL, poll_queue, s);
    if (rc != 0) {
        begin_stop(s);
        while (!s->stopped && poll_once(s))
            ;
        undo_start(s);
        return error_errno(err, rc, "start the poller thread");
    }
    if (publish(s, err) < 0) {
        (void)csi_server_stop(s);
        return -1;
    }
    *ret = s;
    return 0;
}

bool csi_server_is_published(const struct csi_server *s)
{
    return endpoint_is(&s->endpoint, &s->id);
}

/* ---- stop ---- */

static bool wait_stopped(struct csi_server *s, uint64_t until)
{
    struct timespec ts = { .tv_sec = (time_t)(until / 1000),
                           .tv_nsec = (long)(until % 1000) * 1000000 };
    pthread_mutex_lock(&s->lock);
    while (!s->stopped && pthread_cond_timedwait(&s->changed, &s->lock, &ts) == 0)
        ;
    bool stopped = s->stopped;
    pthread_mutex_unlock(&s->lock);
    return stopped;
}

/* Order matters: no call may be left when the server goes, no request when the queue goes. */
static void free_server(struct csi_server *s)
{
    workers_free(s->workers);
    grpc_server_destroy(s->grpc);
    grpc_completion_queue_shutdown(s->cq);
    pthread_join(s->poller, NULL);
    give_pulse_back(s->pulse);
    grpc_completion_queue_destroy(s->cq);
    calls_release(&s->calls);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    (void)unlink(s->bound.path); /* the core did; ours while we hold the lock */
    cleanup_close(&s->lock_fd);
    free(s);
}

static void drain(struct csi_server *s)
{
    if (wait_stopped(s, s->drained_by))
        return;
    log_warn("calls are still running: cancelling them", KV("socket", s->endpoint.path));
    grpc_server_cancel_all_calls(s->grpc);
}

/* The core is done with a cancelled call before the op is. */
static int end_stop(struct csi_server *s, uint64_t until)
{
    if (wait_stopped(s, until) && workers_wait(s->workers, until)) {
        free_server(s);
        return 0;
    }
    log_error("calls did not end: leaving them behind", KV("socket", s->endpoint.path));
    (void)unlink(s->bound.path);
    return -1; /* their threads still use the server: it can't be freed */
}

/* All at once: what starts us again waits for so long, not for so long per socket. */
static int stop_all(struct csi_server **servers, size_t n)
{
    int rc = 0;

    for (size_t i = 0; i < n; i++)
        begin_stop(servers[i]);
    for (size_t i = 0; i < n; i++)
        drain(servers[i]);
    uint64_t until = deadline_in(CANCEL_MS);
    for (size_t i = 0; i < n; i++)
        if (end_stop(servers[i], until) < 0)
            rc = -1;
    return rc;
}

int csi_server_stop(struct csi_server *s)
{
    return stop_all(&s, 1);
}

void csi_server_end(void)
{
    (void)kill(getpid(), SIGTERM); /* csi_server_run waits for it */
}

static void call_hook(void (*hook)(void *ctx), void *ctx)
{
    if (hook != NULL)
        hook(ctx);
}

/* Until SIGTERM or SIGINT. */
static int wait_for_end(const struct csi_server_hooks *hooks)
{
    const struct timespec tick = { .tv_sec = TICK_SECONDS };
    sigset_t set = handled_signals();
    for (;;) {
        int sig = sigtimedwait(&set, NULL, hooks->on_tick != NULL ? &tick : NULL);
        if (sig == SIGTERM || sig == SIGINT)
            return sig;
        if (sig == SIGUSR1)
            call_hook(hooks->on_usr1, hooks->ctx);
        else if (errno == EAGAIN)
            call_hook(hooks->on_tick, hooks->ctx);
    }
}

int csi_server_run(struct csi_server **servers, size_t n, const struct csi_server_hooks *hooks)
{
    text_forget_start();
    /* not in the line below: a level that hides the line would leave out the wait */
    int sig = wait_for_end(hooks);

    log_info("stopping", KV("signal", sig));
    call_hook(hooks->on_stop, hooks->ctx);
    int rc = 0;
    if (atomic_load(&listener_lost)) {
        log_error(
            "gRPC stopped listening after an accept that failed: this process can't be reached");
        rc = -1;
    }
    return stop_all(servers, n) < 0 ? -1 : rc;
}

void csi_server_exit(int code)
{
    (void)fflush(NULL);
#ifdef COFFER_SANITIZER
    if (initialised)
        grpc_shutdown(); /* lets the leak checker see the end */
    exit(code);
#else
    _exit(code);
#endif
}

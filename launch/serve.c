/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/serve.h"

#include "common/cleanup.h"
#include "common/fs.h"
#include "common/listen.h"
#include "common/log.h"
#include "launch/cgroup.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILDREN_MAX 64u /* more wait in the socket's queue */
#define ARGS_MAX     64u

struct server {
    const struct options *options;
    char **argv;
    int listen_fd, signal_fd;
    unsigned children;
    bool stop;
};

/* ---- answers ---- */

int answer(int fd, json_t *reply, struct error *err)
{
    AUTO_FREE char *text = json_text(reply, JSON_COMPACT);

    if (text == NULL)
        return error_memory(err);
    if (fs_write_all(fd, text, strlen(text), "answer", err) < 0)
        return -1;
    return fs_write_all(fd, "\n", 1, "answer", err);
}

int answer_error(int fd, const struct error *e, struct error *err)
{
    AUTO_JSON json_t *reply =
        json_pack("{s{ss ss}}", "error", "code", error_code_name(e->code), "message", e->msg);

    return answer(fd, reply, err);
}

/* ---- a connection ---- */

static bool peer_allowed(const struct server *s, int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return false;
    if (peers_allow(&s->options->peers, peer.uid, peer.gid))
        return true;
    log_warn("a peer that may not ask", KV("uid", peer.uid), KV("gid", peer.gid));
    return false;
}

static void refuse(int fd)
{
    struct error e = ERROR_INIT;

    (void)error_set(&e, ERR_PERMISSION, "this user may not start and stop VMs");
    if (answer_error(fd, &e, NULL) < 0)
        log_debug("a refused peer did not wait for its answer");
}

static int prepare_spawn(posix_spawn_file_actions_t *files, posix_spawnattr_t *attr, int fd)
{
    sigset_t all, none;
    int r = posix_spawn_file_actions_adddup2(files, fd, STDIN_FILENO);

    (void)sigfillset(&all);
    (void)sigemptyset(&none);
    if (r == 0)
        r = posix_spawn_file_actions_adddup2(files, fd, STDOUT_FILENO);
    if (r == 0)
        r = posix_spawn_file_actions_addclosefrom_np(files, 3);
    if (r == 0)
        r = posix_spawnattr_setsigdefault(attr, &all);
    if (r == 0)
        r = posix_spawnattr_setsigmask(attr, &none);
    return r == 0 ? posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK)
                  : r;
}

/* The program's own file, also when another one was installed at its path. */
static int spawn_self(char *const *argv, int fd)
{
    static char *const environment[] = { NULL };
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    char *const *env = environment;
    pid_t pid;
    int r = posix_spawn_file_actions_init(&files);

#ifdef COFFER_FAULT
    env = environ;
#endif
    if (r != 0)
        return r;
    r = posix_spawnattr_init(&attr);
    if (r == 0) {
        r = prepare_spawn(&files, &attr, fd);
        if (r == 0)
            r = posix_spawn(&pid, "/proc/self/exe", &files, &attr, argv, env);
        (void)posix_spawnattr_destroy(&attr);
    }
    (void)posix_spawn_file_actions_destroy(&files);
    return r;
}

static void start_verb(struct server *s, int fd)
{
    char *argv[ARGS_MAX + 2];
    char verb[] = "--verb";
    size_t n = 0;

    for (; s->argv[n] != NULL; n++) /* serve has counted them */
        argv[n] = s->argv[n];
    argv[n] = verb;
    argv[n + 1] = NULL;
    int r = spawn_self(argv, fd);
    if (r == 0)
        s->children++;
    else
        log_error("a request can't be worked on", KV("error", strerror(r)));
}

static void accept_one(struct server *s)
{
    AUTO_CLOSE int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        return;
    if (peer_allowed(s, fd))
        start_verb(s, fd);
    else
        refuse(fd);
}

/* ---- the loop ---- */

static void take_signals(struct server *s)
{
    struct signalfd_siginfo info;

    while (read(s->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo != SIGCHLD)
            s->stop = true;
    }
    while (waitpid(-1, NULL, WNOHANG) > 0)
        s->children -= s->children > 0;
}

static int run(struct server *s, struct error *err)
{
    while (!s->stop || s->children > 0) {
        bool listening = !s->stop && s->children < CHILDREN_MAX;
        struct pollfd p[] = { { .fd = s->signal_fd, .events = POLLIN },
                              { .fd = listening ? s->listen_fd : -1, .events = POLLIN } };
        if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
            return error_errno(err, errno, "wait for connections");
        take_signals(s);
        if ((p[1].revents & POLLIN) != 0)
            accept_one(s);
    }
    return 0;
}

static int watch_signals(int *ret_fd, struct error *err)
{
    sigset_t wanted;

    (void)sigemptyset(&wanted);
    (void)sigaddset(&wanted, SIGCHLD);
    (void)sigaddset(&wanted, SIGTERM);
    (void)sigaddset(&wanted, SIGINT);
    (void)signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &wanted, NULL) < 0)
        return error_errno(err, errno, "block signals");
    *ret_fd = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
    return *ret_fd >= 0 ? 0 : error_errno(err, errno, "watch signals");
}

/* The group may go through to a socket whose name it knows, and not look who else is there. */
static int give_sockets_folder(const struct options *o, struct error *err)
{
    AUTO_CLOSE int fd = -1;

    if (fs_mkdir_p(o->sockets, 0710, err) < 0 || fs_open_dir(o->sockets, &fd, err) < 0)
        return -1;
    if (fchown(fd, 0, o->group) < 0 || fchmod(fd, 0710) < 0)
        return error_errno(err, errno, "give '%s' to its group", o->sockets);
    return 0;
}

/* Each verb gets all of them: one less could be a wider right. */
static int check_arguments(char *const *argv, struct error *err)
{
    size_t n = 0;

    while (argv[n] != NULL)
        n++;
    return n <= ARGS_MAX ? 0 : error_set(err, ERR_INVALID, "more than %u arguments", ARGS_MAX);
}

static int prepare_folders(const struct options *o, struct error *err)
{
    if (fs_mkdir_p(o->state, 0700, err) < 0 || give_sockets_folder(o, err) < 0)
        return -1;
    return cgroup_prepare(o->cgroup, o->any_cgroup, err);
}

int serve(const struct options *o, char **argv, struct error *err)
{
    struct server s = { .options = o, .argv = argv, .listen_fd = -1, .signal_fd = -1 };
    AUTO_LISTENER struct listener listener = LISTENER_INIT;
    AUTO_CLOSE int signals = -1;

    if (check_arguments(argv, err) < 0 || prepare_folders(o, err) < 0 ||
        watch_signals(&signals, err) < 0)
        return -1;
    s.signal_fd = signals;
    if (listener_open(o->socket, SOCK_STREAM, o->group, &listener, err) < 0)
        return -1;
    s.listen_fd = listener.fd;
    log_info("coffer-launch is ready", KV("version", COFFER_VERSION), KV("socket", o->socket));
    int r = run(&s, err);
    log_info("coffer-launch stops");
    return r;
}

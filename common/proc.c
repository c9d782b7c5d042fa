/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/proc.h"

#include "common/cleanup.h"
#include "common/fault.h"
#include "common/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define INPUT_MAX   (60 * 1024)
#define FD_MAX      64    /* `to` is below; our own ends are moved above, so that no dup2 hits another */
#define GRACE_MS    5000  /* between SIGKILL and giving up */
#define LINE_LENGTH 1024  /* longer lines of stderr are cut */
#define ENV_MAX     4

/* The parent's side of one running child. */
struct child {
    const struct proc_spec *spec;
    pid_t pid;
    int pidfd;
    int in, out, err; /* -1: not a pipe, or closed */
    size_t written;
    struct strbuf output;
    char line[LINE_LENGTH];
    size_t line_len;
    char last_line[sizeof(((struct proc_result *)NULL)->last_line)];
};

/* The child's side: what becomes its 0, 1, 2 and the rest. */
struct child_ends {
    int in, out, err;
    int fds[FD_MAX];
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

static void ends_close(struct child_ends *e)
{
    close_fd(&e->in);
    close_fd(&e->out);
    close_fd(&e->err);
    for (size_t i = 0; i < FD_MAX; i++)
        close_fd(&e->fds[i]);
}

static void child_release(struct child *c)
{
    close_fd(&c->pidfd);
    close_fd(&c->in);
    close_fd(&c->out);
    close_fd(&c->err);
    strbuf_release(&c->output);
}

#define AUTO_ENDS  __attribute__((cleanup(ends_close)))
#define AUTO_CHILD __attribute__((cleanup(child_release)))

static int check_spec(const struct proc_spec *spec, struct error *err)
{
    if (spec->argv[0] == NULL || spec->argv[0][0] != '/')
        return error_set(err, ERR_INTERNAL, "a program must be named by its absolute path");
    if (spec->input_len > INPUT_MAX)
        return error_set(err, ERR_INTERNAL, "the input of '%s' is longer than %d bytes",
                         spec->argv[0], INPUT_MAX);
    if (spec->limit_ms == 0)
        return error_set(err, ERR_INTERNAL, "'%s' has no time limit", spec->argv[0]);
    for (size_t i = 0; i < spec->n_fds; i++)
        if (spec->fds[i].to < 3 || spec->fds[i].to >= FD_MAX || spec->fds[i].from < 0)
            return error_set(err, ERR_INTERNAL, "'%s' can't get descriptor %d as its %d",
                             spec->argv[0], spec->fds[i].from, spec->fds[i].to);
    return 0;
}

/* A close-on-exec copy at FD_MAX or above. */
static int move_up(int fd, int *ret, struct error *err)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, FD_MAX);

    if (copy < 0)
        return error_errno(err, errno, "duplicate descriptor %d for a child", fd);
    *ret = copy;
    return 0;
}

/* One pipe: `child_end` 0 when the child reads, 1 when it writes. The parent's end never blocks. */
static int make_pipe(int child_end, int *ret_child, int *ret_parent, struct error *err)
{
    int ends[2];
    int rc;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_errno(err, errno, "make a pipe");
    *ret_parent = ends[1 - child_end];
    rc = move_up(ends[child_end], ret_child, err);
    (void)close(ends[child_end]);
    if (rc < 0)
        return -1;
    if (fcntl(*ret_parent, F_SETFL, O_NONBLOCK) < 0)
        return error_errno(err, errno, "make a pipe non-blocking");
    return 0;
}

static int make_ends(struct child *c, struct child_ends *e, struct error *err)
{
    const struct proc_spec *spec = c->spec;

    if (spec->input_len > 0 && make_pipe(0, &e->in, &c->in, err) < 0)
        return -1;
    if (spec->max_output > 0 && make_pipe(1, &e->out, &c->out, err) < 0)
        return -1;
    if (spec->on_line != NULL && make_pipe(1, &e->err, &c->err, err) < 0)
        return -1;
    for (size_t i = 0; i < spec->n_fds; i++) {
        int *slot = &e->fds[spec->fds[i].to];

        close_fd(slot); /* the same number twice: the last one counts, as with dup2 */
        if (move_up(spec->fds[i].from, slot, err) < 0)
            return -1;
    }
    return 0;
}

static int put_standard(posix_spawn_file_actions_t *fa, int fd, int target, int null_flags)
{
    if (fd >= 0)
        return posix_spawn_file_actions_adddup2(fa, fd, target);
    return posix_spawn_file_actions_addopen(fa, target, "/dev/null", null_flags, 0);
}

/* What the child has open in the end: exactly this. Third-party code may forget O_CLOEXEC; we close. */
static int list_actions(posix_spawn_file_actions_t *fa, const struct proc_spec *spec,
                        const struct child_ends *e)
{
    int rc = put_standard(fa, e->in, STDIN_FILENO, O_RDONLY);

    if (rc == 0)
        rc = put_standard(fa, e->out, STDOUT_FILENO, O_WRONLY);
    if (rc == 0 && spec->on_line != NULL)
        rc = put_standard(fa, e->err, STDERR_FILENO, O_WRONLY);
    for (int fd = 3; rc == 0 && fd < FD_MAX; fd++)
        rc = e->fds[fd] >= 0 ? posix_spawn_file_actions_adddup2(fa, e->fds[fd], fd)
                             : posix_spawn_file_actions_addclose(fa, fd);
    return rc != 0 ? rc : posix_spawn_file_actions_addclosefrom_np(fa, FD_MAX);
}

static int set_signals(posix_spawnattr_t *attr)
{
    sigset_t all, none;
    int rc;

    (void)sigfillset(&all);
    (void)sigemptyset(&none);
    rc = posix_spawnattr_setsigdefault(attr, &all);
    if (rc == 0)
        rc = posix_spawnattr_setsigmask(attr, &none);
    if (rc == 0)
        rc = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    return rc;
}

/* The environment of a child that was given none. */
static void default_env(const char *env[ENV_MAX], struct strbuf *fault UNUSED)
{
    size_t n = 0;

    env[n++] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    env[n++] = "DM_DISABLE_UDEV=1";
#ifdef COFFER_FAULT
    if (getenv("COFFER_FAULT_DIR") != NULL) {
        strbuf_addf(fault, "COFFER_FAULT_DIR=%s", getenv("COFFER_FAULT_DIR"));
        env[n++] = strbuf_text(fault);
    }
#endif
    env[n] = NULL;
}

/* posix_spawn takes argv and env without const but doesn't write to them. */
static char *const *unconst(const char *const *list)
{
    union {
        const char *const *in;
        char *const *out;
    } u = { .in = list };

    return u.out;
}

static int spawn(struct child *c, const posix_spawn_file_actions_t *fa, const posix_spawnattr_t *attr)
{
    AUTO_STRBUF struct strbuf fault = STRBUF_INIT(8192);
    const char *env[ENV_MAX];
    const struct proc_spec *spec = c->spec;

    default_env(env, &fault);
    return posix_spawn(&c->pid, spec->argv[0], fa, attr, unconst(spec->argv),
                       unconst(spec->env != NULL ? spec->env : env));
}

static int start_with(struct child *c, const struct child_ends *e, posix_spawn_file_actions_t *fa,
                      posix_spawnattr_t *attr)
{
    int rc = set_signals(attr);

    if (rc == 0)
        rc = list_actions(fa, c->spec, e);
    return rc != 0 ? rc : spawn(c, fa, attr);
}

static int start(struct child *c, const struct child_ends *e, struct error *err)
{
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t attr;
    int rc = posix_spawn_file_actions_init(&fa);

    if (rc == 0) {
        rc = posix_spawnattr_init(&attr);
        if (rc == 0) {
            rc = start_with(c, e, &fa, &attr);
            (void)posix_spawnattr_destroy(&attr);
        }
        (void)posix_spawn_file_actions_destroy(&fa);
    }
    if (rc == 0)
        return 0;
    (void)error_errno(err, rc, "start '%s'", c->spec->argv[0]);
    /* A program that is missing here is not a volume that isn't found. */
    return error_recode(err, rc == ENOMEM || rc == EAGAIN ? ERR_EXHAUSTED : ERR_INTERNAL);
}

static int open_pidfd(struct child *c, struct error *err)
{
    long fd = syscall(SYS_pidfd_open, c->pid, 0);
    int saved = errno;

    if (fd >= 0) {
        c->pidfd = (int)fd;
        return 0;
    }
    (void)kill(c->pid, SIGKILL);
    while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    return error_errno(err, saved, "watch '%s'", c->spec->argv[0]);
}

/* write(2) to a pipe without the SIGPIPE that a child which doesn't read would bring on us. */
static ssize_t write_quietly(int fd, const void *data, size_t len)
{
    const struct timespec now = { 0 };
    sigset_t pipe_set, old, pending;
    ssize_t n;
    int saved;

    (void)sigemptyset(&pipe_set);
    (void)sigaddset(&pipe_set, SIGPIPE);
    (void)sigemptyset(&pending);
    (void)pthread_sigmask(SIG_BLOCK, &pipe_set, &old);
    (void)sigpending(&pending);
    n = write(fd, data, len);
    saved = errno;
    if (n < 0 && saved == EPIPE && !sigismember(&pending, SIGPIPE))
        (void)sigtimedwait(&pipe_set, NULL, &now);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = saved;
    return n;
}

/* A child that closed its stdin says with its exit code whether that was right. */
static void feed_input(struct child *c)
{
    const char *data = c->spec->input;
    ssize_t n = write_quietly(c->in, data + c->written, c->spec->input_len - c->written);

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n > 0)
        c->written += (size_t)n;
    if (n < 0 || c->written == c->spec->input_len)
        close_fd(&c->in);
}

/* Error texts travel in gRPC: what isn't plain text becomes '?'. */
static void make_printable(char *text)
{
    bool utf8 = utf8_valid(text, strlen(text));

    for (char *p = text; *p != '\0'; p++) {
        unsigned char b = (unsigned char)*p;

        if (b < 0x20 || b == 0x7f || (b >= 0x80 && !utf8))
            *p = '?';
    }
}

static void keep_last(struct child *c)
{
    size_t len = strlen(c->line);

    if (len == 0)
        return;
    if (len >= sizeof(c->last_line)) {
        len = sizeof(c->last_line) - 1;
        while (len > 0 && ((unsigned char)c->line[len] & 0xc0) == 0x80)
            len--;
    }
    memcpy(c->last_line, c->line, len);
    c->last_line[len] = '\0';
}

static void end_line(struct child *c)
{
    c->line[c->line_len] = '\0';
    c->line_len = 0;
    make_printable(c->line);
    c->spec->on_line(c->spec->ctx, c->line);
    keep_last(c);
}

static void take_stderr(struct child *c, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (data[i] == '\n')
            end_line(c);
        else if (c->line_len < sizeof(c->line) - 1)
            c->line[c->line_len++] = data[i] != '\0' ? data[i] : '?';
    }
}

static void take_stdout(struct child *c, const char *data, size_t len)
{
    size_t room = c->output.max - c->output.len;

    strbuf_add(&c->output, data, len < room ? len : room);
    if (len > room)
        c->output.failed = true;
}

/* One read; true when there may be more. */
static bool drain(struct child *c, int *fd, void (*take)(struct child *, const char *, size_t))
{
    char chunk[4096];
    ssize_t n = read(*fd, chunk, sizeof(chunk));

    if (n > 0) {
        take(c, chunk, (size_t)n);
        return true;
    }
    if (n < 0 && errno == EINTR)
        return true;
    if (n == 0 || errno != EAGAIN)
        close_fd(fd);
    return false;
}

/* Waits at most until `deadline`; true when the child has ended. Negative descriptors are skipped. */
static bool serve_once(struct child *c, uint64_t deadline)
{
    struct pollfd p[] = {
        { .fd = c->pidfd, .events = POLLIN },
        { .fd = c->in, .events = POLLOUT },
        { .fd = c->out, .events = POLLIN },
        { .fd = c->err, .events = POLLIN },
    };

    if (poll(p, ARRAY_SIZE(p), deadline_poll_timeout(deadline)) <= 0)
        return false;
    if (p[1].revents != 0)
        feed_input(c);
    if (p[2].revents != 0)
        (void)drain(c, &c->out, take_stdout);
    if (p[3].revents != 0)
        (void)drain(c, &c->err, take_stderr);
    return p[0].revents != 0;
}

/* What is left in the pipes. A grandchild may hold them open: no waiting for their end, and not for ever. */
static void drain_rest(struct child *c)
{
    uint64_t end = deadline_in(GRACE_MS);

    while (c->out >= 0 && drain(c, &c->out, take_stdout) && deadline_left(end) > 0)
        continue;
    while (c->err >= 0 && drain(c, &c->err, take_stderr) && deadline_left(end) > 0)
        continue;
    if (c->line_len > 0)
        end_line(c);
}

static bool serve_until(struct child *c, uint64_t deadline)
{
    do {
        if (serve_once(c, deadline))
            return true;
    } while (deadline_left(deadline) > 0);
    return false;
}

/* Until the child has ended, killed at its limit. *ret_killed: by us. */
static int serve(struct child *c, bool *ret_killed, struct error *err)
{
    *ret_killed = !serve_until(c, deadline_in(c->spec->limit_ms));
    if (!*ret_killed)
        return 0;
    (void)syscall(SYS_pidfd_send_signal, c->pidfd, SIGKILL, NULL, 0);
    if (serve_until(c, deadline_in(GRACE_MS)))
        return 0;
    return error_set(err, ERR_DEADLINE, "'%s' (pid %d) can't be killed: it waits in the kernel",
                     c->spec->argv[0], (int)c->pid);
}

static int reap(struct child *c, struct proc_result *r, struct error *err)
{
    siginfo_t info = { 0 };
    int rc;

    do
        rc = waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED);
    while (rc < 0 && errno == EINTR);
    if (rc < 0)
        return error_errno(err, errno, "wait for '%s'", c->spec->argv[0]);
    r->exit_code = info.si_code == CLD_EXITED ? info.si_status : -1;
    r->signal = info.si_code == CLD_EXITED ? 0 : info.si_status;
    return 0;
}

static int over_limit(const struct child *c, struct error *err)
{
    const char *said = c->last_line[0] != '\0' ? "; it last said: " : "";

    return error_set(err, ERR_DEADLINE, "'%s' did not end within %llu ms and was killed%s%s",
                     c->spec->argv[0], (unsigned long long)c->spec->limit_ms, said, c->last_line);
}

/* The child's ends are closed here as soon as it has them, else its pipes would never end. */
static int launch(struct child *c, struct error *err)
{
    AUTO_ENDS struct child_ends e = { .in = -1, .out = -1, .err = -1 };

    for (size_t i = 0; i < FD_MAX; i++)
        e.fds[i] = -1;
    if (make_ends(c, &e, err) < 0)
        return -1;
    return start(c, &e, err);
}

static int run(struct child *c, struct proc_result *r, struct error *err)
{
    bool killed = false;

    if (launch(c, err) < 0)
        return -1;
    if (open_pidfd(c, err) < 0)
        return -1;
    FAULT_POINT("proc:child:started");
    if (serve(c, &killed, err) < 0 || reap(c, r, err) < 0)
        return -1;
    FAULT_POINT("proc:child:ended");
    drain_rest(c);
    return killed && r->signal == SIGKILL ? over_limit(c, err) : 0;
}

int proc_run(const struct proc_spec *spec, struct proc_result *ret, struct error *err)
{
    AUTO_CHILD struct child c = {
        .spec = spec,
        .pidfd = -1,
        .in = -1,
        .out = -1,
        .err = -1,
        .output = STRBUF_INIT(spec->max_output),
    };
    struct proc_result r = { .exit_code = -1 };

    if (check_spec(spec, err) < 0 || run(&c, &r, err) < 0)
        return -1;
    r.output = c.output;
    c.output = (struct strbuf)STRBUF_INIT(0);
    memcpy(r.last_line, c.last_line, sizeof(r.last_line));
    *ret = r;
    return 0;
}

void proc_result_release(struct proc_result *r)
{
    strbuf_release(&r->output);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/proc.h"

#include "common/cleanup.h"
#include "common/fault.h"
#include "common/parse.h"
#include "common/proc_spawn.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define GRACE_MS    5000 /* between SIGKILL and giving up */
#define LINE_LENGTH 1024 /* longer lines of stderr are cut */

/* The parent's side of one running child. */
struct child {
    const struct proc_spec *spec;
    struct proc_child p;
    int pidfd;
    size_t written;
    struct strbuf output;
    char line[LINE_LENGTH];
    size_t line_len;
    char last_line[sizeof(((struct proc_result *)NULL)->last_line)];
};

static void child_release(struct child *c)
{
    proc_close_fd(&c->pidfd);
    proc_child_close(&c->p);
    strbuf_release(&c->output);
}

#define AUTO_CHILD __attribute__((cleanup(child_release)))

static int open_pidfd(struct child *c, struct error *err)
{
    long fd = syscall(SYS_pidfd_open, c->p.pid, 0);
    int saved = errno;

    if (fd >= 0) {
        c->pidfd = (int)fd;
        return 0;
    }
    (void)kill(c->p.pid, SIGKILL);
    while (waitpid(c->p.pid, NULL, 0) < 0 && errno == EINTR)
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
    ssize_t n = write_quietly(c->p.in, data + c->written, c->spec->input_len - c->written);

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n > 0)
        c->written += (size_t)n;
    if (n < 0 || c->written == c->spec->input_len)
        proc_close_fd(&c->p.in);
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
        proc_close_fd(fd);
    return false;
}

/* Waits at most until `deadline`; true: the child has ended. poll skips negative descriptors. */
static bool serve_once(struct child *c, uint64_t deadline)
{
    struct pollfd p[] = {
        { .fd = c->pidfd, .events = POLLIN },
        { .fd = c->p.in, .events = POLLOUT },
        { .fd = c->p.out, .events = POLLIN },
        { .fd = c->p.err, .events = POLLIN },
    };

    if (poll(p, ARRAY_SIZE(p), deadline_poll_timeout(deadline)) <= 0)
        return false;
    if (p[1].revents != 0)
        feed_input(c);
    if (p[2].revents != 0)
        (void)drain(c, &c->p.out, take_stdout);
    if (p[3].revents != 0)
        (void)drain(c, &c->p.err, take_stderr);
    return p[0].revents != 0;
}

/* What is left in the pipes. A grandchild may hold them open: no waiting for their end, and not for
 * ever. */
static void drain_rest(struct child *c)
{
    uint64_t end = deadline_in(GRACE_MS);

    while (c->p.out >= 0 && drain(c, &c->p.out, take_stdout) && deadline_left(end) > 0)
        continue;
    while (c->p.err >= 0 && drain(c, &c->p.err, take_stderr) && deadline_left(end) > 0)
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
                     c->spec->argv[0], (int)c->p.pid);
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

static int run(struct child *c, struct proc_result *r, struct error *err)
{
    bool killed = false;

    if (proc_spawn(c->spec, &c->p, err) < 0)
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
        .p = PROC_CHILD_INIT,
        .pidfd = -1,
        .output = STRBUF_INIT(spec->max_output),
    };
    struct proc_result r = { .exit_code = -1 };

    if (run(&c, &r, err) < 0)
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

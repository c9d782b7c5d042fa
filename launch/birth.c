/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/birth.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/fault.h"
#include "launch/clone.h"
#include "launch/init.h"
#include "launch/jail.h"
#include "launch/root.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)

/* What the new process says to the one that made it: an error, or that it runs. Both are the same
 * program, so the structure is the wire. */
struct report {
    enum error_code code;
    char text[512];
};

/* ---- the new process ---- */

static void send_report(int fd, const struct error *e)
{
    struct report report = { .code = e->code };

    (void)snprintf(report.text, sizeof(report.text), "%.500s", e->msg);
    /* who made us may be gone: nothing follows from that */
    (void)send(fd, &report, sizeof(report), MSG_NOSIGNAL);
}

static int become(const struct birth *b, pid_t *ret_program, struct error *err)
{
    sigset_t all;

    (void)sigfillset(&all);
    if (sigprocmask(SIG_SETMASK, &all, NULL) < 0)
        return error_errno(err, errno, "block signals");
    FAULT_POINT("launch.start.cloned");
    if (jail_prepare(b->id, err) < 0)
        return -1;
    FAULT_POINT("launch.start.prepared");
    if (root_enter(b->over, b->volume_fd, b->config, err) < 0 || jail_enter(b->userns_fd, err) < 0)
        return -1;
    init_forget(b->argv);
    return init_start(b->config->command, b->id, b->socket_fd, ret_program, err);
}

/* The program runs from here on. Only now the lock, which is among the others, is let go. */
static void live(const struct birth *b, int report_fd) __attribute__((noreturn));
static void live(const struct birth *b, int report_fd)
{
    struct error err = ERROR_INIT;
    pid_t program = -1;

    if (become(b, &program, &err) < 0) {
        send_report(report_fd, &err);
        _exit(1);
    }
    send_report(report_fd, &err);
    if (dup2(b->status_fd, STDIN_FILENO) < 0 || close_range(1, ~0U, 0) < 0)
        _exit(1);
    init_run(program, STDIN_FILENO);
}

/* ---- the one that makes it ---- */

static int read_report(int fd, uint64_t deadline, struct error *err)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    struct report report = { .code = ERR_OK };
    int r;

    do {
        r = poll(&p, 1, deadline_poll_timeout(deadline));
    } while (r < 0 && errno == EINTR);
    if (r == 0)
        return error_set(err, ERR_DEADLINE, "the VM took too long to start");
    ssize_t n = r > 0 ? recv(fd, &report, sizeof(report), 0) : -1;
    if (n != (ssize_t)sizeof(report))
        return error_set(err, ERR_INTERNAL, "the VM ended before its program was started");
    report.text[sizeof(report.text) - 1] = '\0';
    return report.code == ERR_OK ? 0 : error_set(err, report.code, "%s", report.text);
}

int birth(const struct birth *b, uint64_t deadline, struct error *err)
{
    int pair[2], pidfd = -1;
    pid_t pid = -1;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return error_errno(err, errno, "make a pair of sockets");
    AUTO_CLOSE int mine = pair[0];
    AUTO_CLOSE int its = pair[1];
    if (clone_process(NAMESPACES, b->cgroup_fd, &pid, &pidfd, err) < 0)
        return error_prefix(err, "VM '%s'", b->id);
    if (pid == 0) {
        (void)close(mine);
        live(b, its);
    }
    (void)close(pidfd); /* whether it is still there is told by the control group */
    cleanup_close(&its);
    its = -1;
    return read_report(mine, deadline, err);
}

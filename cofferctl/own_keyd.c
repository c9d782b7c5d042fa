/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/own_keyd.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/proc_spawn.h"
#include "common/strbuf.h"
#include "keyd/client.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define FOLDER      "/run/coffer-rescue.XXXXXX"
#define LIFELINE_FD 3
#define READY_MS    60000u /* from its start to its first answer */
#define ASK_MS      5000u  /* for one answer */
#define STOP_MS     60000u /* until it has given its token back; then it is killed */
#define STATUS_MAX  65536u

static int make_folder(struct own_keyd *k, struct error *err)
{
    memcpy(k->folder, FOLDER, sizeof(FOLDER));
    if (mkdtemp(k->folder) == NULL) {
        (void)error_errno(err, errno, "make a folder '%s'", FOLDER);
        k->folder[0] = '\0';
        return -1;
    }
    (void)snprintf(k->socket, sizeof(k->socket), "%s/keyd.sock", k->folder);
    return 0;
}

static int spawn(const char *program, const char *config, struct own_keyd *k, struct error *err)
{
    char peer[48], lifeline[8];
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_errno(err, errno, "make a pipe");
    AUTO_CLOSE int theirs = ends[0];
    k->lifeline = ends[1];
    (void)snprintf(peer, sizeof(peer), "%u:%u", (unsigned)geteuid(), (unsigned)getegid());
    (void)snprintf(lifeline, sizeof(lifeline), "%d", LIFELINE_FD);
    const char *const argv[] = { program,  "--config",    config,    "--socket", k->socket,
                                 "--peer", peer,          "--allow", "UNWRAP",   "--lifeline",
                                 lifeline, "--log-level", "error",   NULL };
    const struct proc_fd fds[] = { { theirs, LIFELINE_FD } };
    const struct proc_spec spec = {
        .argv = argv, .fds = fds, .n_fds = ARRAY_SIZE(fds), .limit_ms = READY_MS
    };
    struct proc_child child = PROC_CHILD_INIT;
    int r = proc_spawn(&spec, &child, err);
    proc_child_close(&child);
    k->pid = r < 0 ? -1 : child.pid;
    return r;
}

/* True when it is gone, and reaped. */
static bool gone(struct own_keyd *k)
{
    pid_t r = waitpid(k->pid, NULL, WNOHANG);

    if (r != k->pid && !(r < 0 && errno == ECHILD))
        return false;
    k->pid = -1;
    return true;
}

static int wait_ready(struct own_keyd *k, struct error *err)
{
    AUTO_STRBUF struct strbuf status = STRBUF_INIT(STATUS_MAX);
    struct error local = ERROR_INIT;
    uint64_t until = deadline_in(READY_MS);

    while (deadline_left(until) > 0) {
        local = (struct error)ERROR_INIT;
        strbuf_clear(&status);
        if (keyd_status(k->socket, deadline_in(ASK_MS), &status, &local) == 0)
            return 0;
        if (gone(k))
            return error_set(err, ERR_UNAVAILABLE,
                             "coffer-keyd ended before it answered; what it says above is why");
        sleep_ms(20);
    }
    return error_set(err, ERR_UNAVAILABLE, "coffer-keyd doesn't answer: %s", local.msg);
}

int own_keyd_start(const char *program, const char *config, struct own_keyd *ret, struct error *err)
{
    AUTO_OWN_KEYD struct own_keyd k = OWN_KEYD_INIT;

    if (make_folder(&k, err) < 0 || spawn(program, config, &k, err) < 0 || wait_ready(&k, err) < 0)
        return -1;
    *ret = k;
    k = (struct own_keyd)OWN_KEYD_INIT;
    return 0;
}

static void end_process(struct own_keyd *k)
{
    uint64_t until = deadline_in(STOP_MS);

    (void)kill(k->pid, SIGTERM);
    while (!gone(k) && deadline_left(until) > 0)
        sleep_ms(10);
    if (k->pid < 0)
        return;
    (void)kill(k->pid, SIGKILL);
    while (waitpid(k->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    k->pid = -1;
}

void own_keyd_stop(struct own_keyd *k)
{
    char lock[sizeof(k->socket) + 8];

    if (k->pid >= 0)
        end_process(k);
    if (k->lifeline >= 0)
        (void)close(k->lifeline);
    if (k->folder[0] != '\0') {
        (void)snprintf(lock, sizeof(lock), "%s.lock", k->socket);
        (void)unlink(k->socket);
        (void)unlink(lock);
        (void)rmdir(k->folder);
    }
    *k = (struct own_keyd)OWN_KEYD_INIT;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/init.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOCKET_FD 3 /* systemd's SD_LISTEN_FDS_START */
#define PROGRAM   2 /* the first process of a new pid namespace after init: LISTEN_PID */

static int add_files(posix_spawn_file_actions_t *files, int socket_fd)
{
    int r = posix_spawn_file_actions_adddup2(files, socket_fd, SOCKET_FD);

    for (int fd = 0; fd <= 2 && r == 0; fd++)
        r = posix_spawn_file_actions_addopen(files, fd, "/dev/null", fd == 0 ? O_RDONLY : O_WRONLY,
                                             0);
    return r == 0 ? posix_spawn_file_actions_addclosefrom_np(files, SOCKET_FD + 1) : r;
}

static int set_signals(posix_spawnattr_t *attr)
{
    sigset_t all, none;
    int r;

    (void)sigfillset(&all);
    (void)sigemptyset(&none);
    r = posix_spawnattr_setsigdefault(attr, &all);
    if (r == 0)
        r = posix_spawnattr_setsigmask(attr, &none);
    if (r == 0)
        r = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK |
                                               POSIX_SPAWN_SETSID);
    return r;
}

static int spawn(char *const *command, char *const *environment, int socket_fd, pid_t *ret)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    int r = posix_spawn_file_actions_init(&files);

    if (r != 0)
        return r;
    r = posix_spawnattr_init(&attr);
    if (r == 0) {
        r = add_files(&files, socket_fd);
        if (r == 0)
            r = set_signals(&attr);
        if (r == 0)
            r = posix_spawn(ret, command[0], &files, &attr, command, environment);
        (void)posix_spawnattr_destroy(&attr);
    }
    (void)posix_spawn_file_actions_destroy(&files);
    return r;
}

static void wipe(char **texts)
{
    for (; texts != NULL && *texts != NULL; texts++)
        explicit_bzero(*texts, strlen(*texts));
}

void init_forget(char **argv)
{
    wipe(argv);
    wipe(environ);
}

int init_start(char *const *command, const char *id, int socket_fd, pid_t *ret, struct error *err)
{
    char prefix[64];
    char *const environment[] = { (char[]){ "PATH=/usr/bin:/bin" },
                                  (char[]){ "HOME=/personalcloud" },
                                  (char[]){ "NODE_ENV=production" },
                                  (char[]){ "TARGET_DISK=true" },
                                  (char[]){ "LISTEN_FDS=1" },
                                  (char[]){ "LISTEN_PID=2" },
                                  prefix,
                                  NULL };
    pid_t pid = -1;

    (void)snprintf(prefix, sizeof(prefix), "VM_URL_PREFIX=/clouds/%s/", id);
    int r = spawn(command, environment, socket_fd, &pid);
    if (r != 0)
        return error_errno(err, r, "start '%s' in the VM", command[0]);
    if (pid != PROGRAM)
        return error_set(err, ERR_INTERNAL, "the VM's program is process %d, not %d", pid, PROGRAM);
    *ret = pid;
    return 0;
}

static void note_end(int status_fd, int status)
{
    if (WIFSIGNALED(status))
        (void)dprintf(status_fd, "signal %d", WTERMSIG(status));
    else
        (void)dprintf(status_fd, "exit %d", WEXITSTATUS(status));
}

/* Reaps what has ended; true when it was the program. */
static bool reap(pid_t program, int status_fd)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid != program)
            continue;
        note_end(status_fd, status);
        return true;
    }
    return false;
}

void init_run(pid_t program, int status_fd)
{
    sigset_t wanted;

    (void)sigemptyset(&wanted);
    (void)sigaddset(&wanted, SIGCHLD);
    (void)sigaddset(&wanted, SIGTERM);
    while (!reap(program, status_fd)) {
        siginfo_t info;
        if (sigwaitinfo(&wanted, &info) == SIGTERM)
            (void)kill(program, SIGTERM);
    }
    _exit(0);
}

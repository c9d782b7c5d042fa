/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/proc_spawn.h"

#include "common/cleanup.h"
#include "common/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#define INPUT_MAX (60 * 1024)
#define FD_MAX    64 /* `to` is below, our own ends are above: no dup2 hits another */
#define ENV_MAX   4

#define OOM_SCORE_MAX  1000
#define OOM_SCORE_MORE 100

/* The child's side: what becomes its 0, 1, 2 and the rest. */
struct child_ends {
    int in, out, err;
    int fds[FD_MAX];
};

void proc_close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

static void ends_close(struct child_ends *e)
{
    proc_close_fd(&e->in);
    proc_close_fd(&e->out);
    proc_close_fd(&e->err);
    for (size_t i = 0; i < FD_MAX; i++)
        proc_close_fd(&e->fds[i]);
}

#define AUTO_ENDS __attribute__((cleanup(ends_close)))

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

static int make_ends(const struct proc_spec *spec, struct child_ends *e, struct proc_child *c,
                     struct error *err)
{
    if (spec->input_len > 0 && make_pipe(0, &e->in, &c->in, err) < 0)
        return -1;
    if (spec->max_output > 0 && make_pipe(1, &e->out, &c->out, err) < 0)
        return -1;
    if (spec->on_line != NULL && make_pipe(1, &e->err, &c->err, err) < 0)
        return -1;
    for (size_t i = 0; i < spec->n_fds; i++) {
        int *slot = &e->fds[spec->fds[i].to];

        proc_close_fd(slot); /* the same number twice: the last one counts, as with dup2 */
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

/* What the child has open in the end: exactly this. Foreign code may forget O_CLOEXEC; we close. */
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

static int set_signals(const struct proc_spec *spec, posix_spawnattr_t *attr)
{
    sigset_t all, none;
    int rc;

    (void)sigfillset(&all);
    if (spec->outlives_us)
        (void)sigdelset(&all, SIGPIPE);
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

static int spawn(const struct proc_spec *spec, const posix_spawn_file_actions_t *fa,
                 const posix_spawnattr_t *attr, pid_t *ret_pid)
{
    AUTO_STRBUF struct strbuf fault = STRBUF_INIT(8192);
    const char *env[ENV_MAX];

    default_env(env, &fault);
    return posix_spawn(ret_pid, spec->argv[0], fa, attr, unconst(spec->argv),
                       unconst(spec->env != NULL ? spec->env : env));
}

static int prepare_and_spawn(const struct proc_spec *spec, const struct child_ends *e,
                             posix_spawn_file_actions_t *fa, pid_t *ret_pid)
{
    posix_spawnattr_t attr;
    int rc = posix_spawnattr_init(&attr);

    if (rc != 0)
        return rc;
    rc = set_signals(spec, &attr);
    if (rc == 0)
        rc = list_actions(fa, spec, e);
    if (rc == 0)
        rc = spawn(spec, fa, &attr, ret_pid);
    (void)posix_spawnattr_destroy(&attr);
    return rc;
}

static int start(const struct proc_spec *spec, const struct child_ends *e, pid_t *ret_pid,
                 struct error *err)
{
    posix_spawn_file_actions_t fa;
    int rc = posix_spawn_file_actions_init(&fa);

    if (rc == 0) {
        rc = prepare_and_spawn(spec, e, &fa, ret_pid);
        (void)posix_spawn_file_actions_destroy(&fa);
    }
    if (rc == 0)
        return 0;
    (void)error_errno(err, rc, "start '%s'", spec->argv[0]);
    /* A program that is missing here is not a volume that isn't found. */
    return error_recode(err, rc == ENOMEM || rc == EAGAIN ? ERR_EXHAUSTED : ERR_INTERNAL);
}

/* Where memory runs out, in our container or on the machine, the kernel ends the child and not us:
 * one call fails and says so, instead of all that are under way. Above ours by as much as a tenth
 * of that memory weighs, so a node-critical pod's child still is one of the last on the machine.
 * Where it can't be done, the kernel chooses as before. */
static void die_before_us(pid_t pid)
{
    char path[64], text[16];

    if (fs_read_line("/proc/self/oom_score_adj", text, sizeof(text), NULL) < 0)
        return;
    long score = strtol(text, NULL, 10) + OOM_SCORE_MORE;
    (void)snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        (void)dprintf(fd, "%ld", score < OOM_SCORE_MAX ? score : OOM_SCORE_MAX);
}

/* The child's ends are closed here as soon as it has them, else its pipes would never end. */
int proc_spawn(const struct proc_spec *spec, struct proc_child *child, struct error *err)
{
    AUTO_ENDS struct child_ends e = { .in = -1, .out = -1, .err = -1 };

    for (size_t i = 0; i < FD_MAX; i++)
        e.fds[i] = -1;
    if (check_spec(spec, err) < 0 || make_ends(spec, &e, child, err) < 0)
        return -1;
    if (start(spec, &e, &child->pid, err) < 0)
        return -1;
    die_before_us(child->pid);
    return 0;
}

void proc_child_close(struct proc_child *child)
{
    proc_close_fd(&child->in);
    proc_close_fd(&child->out);
    proc_close_fd(&child->err);
}

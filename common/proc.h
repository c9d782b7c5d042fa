/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc.h: run one child to its end, by posix_spawn (this process has threads; it never forks bare).
 * argv[0] is an absolute path. The child gets exactly: stdin (from `input`, or /dev/null), stdout
 * (captured up to max_output, or /dev/null), stderr (each line handed to on_line, or inherited when
 * NULL), and `fds`, each dup'ed to its number. Everything else is close-on-exec. The environment is
 * exactly `env` (NULL: PATH and DM_DISABLE_UDEV=1). Signals are reset to default (but see
 * outlives_us), the mask is empty. Thread-safe: any number of threads may run children.
 */
#ifndef COFFER_COMMON_PROC_H
#define COFFER_COMMON_PROC_H

#include "common/base.h"
#include "common/deadline.h"
#include "common/error.h"
#include "common/strbuf.h"

struct proc_fd {
    int from;
    int to;
}; /* `to` >= 3 */

struct proc_spec {
    const char *const *argv;
    const char *const *env;
    const void *input;
    size_t input_len; /* <= 60 KiB: written before the child is waited for */
    const struct proc_fd *fds;
    size_t n_fds;
    size_t max_output; /* 0: stdout goes to /dev/null */
    /* Not ended by SIGPIPE when it writes after this process died (which must ignore that signal):
     * a repair that is broken off at its first message is worse than one that nobody listens to. */
    bool outlives_us;
    uint64_t limit_ms; /* this kind of child's own limit; then SIGKILL and ERR_DEADLINE */
    void (*on_line)(void *ctx, const char *line);
    void *ctx;
};

struct proc_result {
    int exit_code;        /* -1 when a signal ended it */
    int signal;           /* 0 when it exited */
    struct strbuf output; /* release with proc_result_release */
    char last_line[256];  /* of stderr: what the child said last */
};

/* 0 when the child ran and was reaped, whatever its exit code. Over its limit: killed and
 * ERR_DEADLINE. More than max_output: `output` has the first bytes and fails strbuf_check.
 * A child that survives SIGKILL (D state) for 5 s: ERR_DEADLINE naming its pid; it is left behind,
 * with the descriptors it inherited. */
int proc_run(const struct proc_spec *spec, struct proc_result *ret, struct error *err) MUST_CHECK;
void proc_result_release(struct proc_result *r);

#define AUTO_PROC_RESULT __attribute__((cleanup(proc_result_release)))

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc_spawn.h: the first half of proc.c: pipes, descriptors and posix_spawn, for it and for who
 * starts a program that goes on running (cofferctl/own_keyd.c); `input` isn't written here. The
 * caller owns the parent's ends and reaps the child. Thread-safe.
 */
#ifndef COFFER_COMMON_PROC_SPAWN_H
#define COFFER_COMMON_PROC_SPAWN_H

#include "common/base.h"
#include "common/proc.h"

#include <sys/types.h>

struct proc_child {
    pid_t pid;
    int in, out, err; /* the parent's ends, non-blocking; -1: not a pipe */
};

#define PROC_CHILD_INIT                           \
    {                                             \
        .pid = -1, .in = -1, .out = -1, .err = -1 \
    }

/* On failure there is no child; `child` may hold pipe ends all the same, for proc_child_close. */
int proc_spawn(const struct proc_spec *spec, struct proc_child *child,
               struct error *err) MUST_CHECK;
void proc_child_close(struct proc_child *child); /* the pipe ends; the process is left alone */
void proc_close_fd(int *fd);                     /* closes when open; -1 after it */

#endif

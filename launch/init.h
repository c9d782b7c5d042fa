/* SPDX-License-Identifier: Apache-2.0 */
/*
 * init.h: process 1 of a VM: starts its program, hands SIGTERM on to it, reaps what is left to it,
 * and when the program ends writes how ("exit 1", "signal 9") and ends, with which the kernel ends
 * all that is left. It is a copy of coffer-launch: what that was started with, its command line and
 * environment, the VM could read in /proc/1, so they are wiped first.
 */
#ifndef COFFER_LAUNCH_INIT_H
#define COFFER_LAUNCH_INIT_H

#include "common/base.h"
#include "common/error.h"

#include <sys/types.h>

/* Overwrites the texts of this process's arguments and environment, where the kernel shows them
 * from; nothing that points into them (options.h, getenv) can be used afterwards. */
void init_forget(char **argv);
/* The program, with the socket as descriptor 3 and an environment of its own. */
int init_start(char *const *command, const char *id, int socket_fd, pid_t *ret,
               struct error *err) MUST_CHECK;
/* Until the program ends. */
void init_run(pid_t program, int status_fd) __attribute__((noreturn));

#endif

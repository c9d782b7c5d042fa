/* SPDX-License-Identifier: Apache-2.0 */
/* options.h: coffer-launch's command line, the same for the listener and for each verb's process.
 * Filled once by main; read-only after it. */
#ifndef COFFER_LAUNCH_OPTIONS_H
#define COFFER_LAUNCH_OPTIONS_H

#include "common/base.h"
#include "common/error.h"
#include "common/flags.h"
#include "common/peers.h"

struct options {
    const char *socket, *socket_group, *config, *log_level, *log_format;
    const char *volumes; /* <volumes>/<id>/volume is a VM's volume */
    const char *sockets; /* <sockets>/<id>.sock is where a VM listens */
    const char *cgroup;  /* <cgroup>/<id> holds a VM */
    const char *state;   /* <state>/<id> is a folder, as long as there is something of a VM */
    struct flag_strings peers_text;
    bool verb; /* this process answers one request, on its stdin and stdout */
    /* test builds only: a volume on any device; a cgroup without its limits */
    bool any_volume, any_cgroup;
    struct peers peers;
    char **argv; /* all of it, as the kernel gave it */
    gid_t group;
};

extern const struct flags_program options_program;

/* *ret_done: --help or --version was answered. ERR_INVALID. */
int options_read(int argc, char **argv, struct options *ret, bool *ret_done,
                 struct error *err) MUST_CHECK;

#endif

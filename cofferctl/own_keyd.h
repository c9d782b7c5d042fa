/* SPDX-License-Identifier: Apache-2.0 */
/*
 * own_keyd.h: a coffer-keyd of one's own, for one unwrap by the administrator's login: it serves
 * this process alone, on a socket in a folder that nobody else may enter, and ends with it, however
 * it ends (coffer-keyd --lifeline). No key passes through here. One thread.
 */
#ifndef COFFER_COFFERCTL_OWN_KEYD_H
#define COFFER_COFFERCTL_OWN_KEYD_H

#include "common/base.h"
#include "common/error.h"

#include <sys/types.h>

struct own_keyd {
    pid_t pid;    /* -1: none */
    int lifeline; /* the pipe's end that keeps it alive */
    char folder[64], socket[96];
};
#define OWN_KEYD_INIT                                               \
    {                                                               \
        .pid = -1, .lifeline = -1, .folder = { 0 }, .socket = { 0 } \
    }

/* program: coffer-keyd's absolute path; config: as its --config. Returns when it answers. What it
 * says on the way goes to our standard error. ERR_UNAVAILABLE: it ended, or didn't answer in time.
 */
int own_keyd_start(const char *program, const char *config, struct own_keyd *ret,
                   struct error *err) MUST_CHECK;
/* Waits until it is gone: it gives its Vault token back first, if it made that itself. Nothing is
 * left of the folder. Safe on OWN_KEYD_INIT. */
void own_keyd_stop(struct own_keyd *k);
#define AUTO_OWN_KEYD __attribute__((cleanup(own_keyd_stop)))

#endif

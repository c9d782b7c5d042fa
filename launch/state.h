/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.h: <state>/<id>, a folder that is there as long as there may be anything else of a VM: it
 * is made first and removed last. In it: `uid`, the host's user that the VM runs as; `status`, what
 * its init wrote when its program ended; `stopping`, when a stop has begun. Whoever works on a VM
 * holds the folder's flock; a VM that is being born holds it too, until its program runs.
 */
#ifndef COFFER_LAUNCH_STATE_H
#define COFFER_LAUNCH_STATE_H

#include "common/base.h"
#include "common/error.h"
#include "launch/config.h"
#include "launch/verb.h"

#define STATUS_MAX 32u

struct state {
    int base_fd; /* <state> */
    int dir_fd;  /* <state>/<id>, locked */
    char id[VM_ID_LEN + 1];
};

#define STATE_INIT                            \
    {                                         \
        .base_fd = -1, .dir_fd = -1, .id = "" \
    }

/* Makes it when it isn't there, and locks it. ERR_ABORTED: another process works on that VM. */
int state_open(const char *base, const char *id, struct state *ret, struct error *err) MUST_CHECK;
void state_close(struct state *s); /* keeps errno; safe on STATE_INIT */
#define AUTO_STATE __attribute__((cleanup(state_close)))

/* A user that no other VM of this host has: the one that is noted already, or the next free one. */
int state_take_uid(const struct state *s, const struct launch_config *c, uid_t *ret,
                   struct error *err) MUST_CHECK;
/* For init to write to; an old status is gone. */
int state_status_fd(const struct state *s, int *ret_fd, struct error *err) MUST_CHECK;
/* A stop that was killed may have asked the VM to end already: what still runs is no VM then. */
int state_set_stopping(const struct state *s, bool stopping, struct error *err) MUST_CHECK;
int state_stopping(const struct state *s, bool *ret, struct error *err) MUST_CHECK;
/* The folder and all in it. Needs the lock. */
int state_remove(const struct state *s, struct error *err) MUST_CHECK;

/* What `list` reads, without the lock. ERR_NOT_FOUND where there is nothing (any more). */
int state_read_uid(int base_fd, const char *id, uid_t *ret, struct error *err) MUST_CHECK;
int state_read_status(int base_fd, const char *id, char ret[STATUS_MAX + 1],
                      struct error *err) MUST_CHECK;

/* Each VM there is a folder of; cb answers 0 to go on. */
typedef int state_cb(void *ctx, int base_fd, const char *id, struct error *err);
int state_each(int base_fd, state_cb *cb, void *ctx, struct error *err) MUST_CHECK;

#endif

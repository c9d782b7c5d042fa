/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verb.h: coffer-launch's verbs. A new one is a row in verb.c and a file verb_<name>.c. One process
 * runs one verb, so all of it may be killed on any line, and every verb begins by looking at what
 * there is. The request's wire is in docs/launch.md.
 */
#ifndef COFFER_LAUNCH_VERB_H
#define COFFER_LAUNCH_VERB_H

#include "common/base.h"
#include "common/error.h"
#include "common/json.h"
#include "launch/config.h"
#include "launch/options.h"

#define REQUEST_MAX  4096u
#define GRACE_MAX_MS 600000u
#define VM_ID_LEN    32u

enum verb_takes {
    TAKES_ID = 1 << 0,
    TAKES_GRACE = 1 << 1,
};

struct request {
    char id[VM_ID_LEN + 1];
    uint64_t grace_ms;
};

struct launch {
    const struct options *options;
    const struct launch_config *config;
};

struct verb {
    const char *name;
    unsigned takes;
    /* Adds its answer's fields to `reply`. */
    int (*run)(const struct launch *l, const struct request *q, json_t *reply, struct error *err);
};

/* ERR_INVALID: malformed, another verb, a field too many or too few. */
int launch_request_decode(const char *text, size_t len, const struct verb **ret_verb,
                          struct request *ret, struct error *err) MUST_CHECK;

int verb_start(const struct launch *l, const struct request *q, json_t *reply,
               struct error *err) MUST_CHECK;
int verb_stop(const struct launch *l, const struct request *q, json_t *reply,
              struct error *err) MUST_CHECK;
int launch_list(const struct launch *l, const struct request *q, json_t *reply,
                struct error *err) MUST_CHECK;

/* Sets a field; takes the value. */
int reply_set(json_t *reply, const char *key, json_t *value, struct error *err) MUST_CHECK;

#endif

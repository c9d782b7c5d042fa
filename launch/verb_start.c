/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/verb.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/fault.h"
#include "common/listen.h"
#include "common/log.h"
#include "launch/birth.h"
#include "launch/cgroup.h"
#include "launch/remains.h"
#include "launch/state.h"
#include "launch/userns.h"
#include "launch/volume.h"

#include <sys/socket.h>
#include <unistd.h>

#define BIRTH_MS 120000

struct start {
    const struct launch *launch;
    const char *id;
    struct state state;
    uid_t uid;
    int volume_fd, userns_fd, mount_fd, group_fd, socket_fd, status_fd;
};

static void start_release(struct start *s)
{
    const int fds[] = { s->volume_fd, s->userns_fd, s->mount_fd,
                        s->group_fd,  s->socket_fd, s->status_fd };
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        cleanup_close(&fds[i]);
    state_close(&s->state);
}

/* ---- steps ---- */

static int find_volume(struct start *s, struct error *err)
{
    const struct options *o = s->launch->options;

    return vm_volume_open(o->volumes, s->id, o->any_volume, &s->volume_fd, err);
}

/* Of one that ended by itself, of a start or a stop that was killed. */
static int clean(struct start *s, struct error *err)
{
    const struct options *o = s->launch->options;

    if (remains_kill(o, s->id, err) < 0 || remains_remove_group(o, s->id, err) < 0 ||
        remains_remove_socket(o, s->id, err) < 0)
        return -1;
    return state_set_stopping(&s->state, false, err);
}

static int take_user(struct start *s, struct error *err)
{
    return state_take_uid(&s->state, s->launch->config, &s->uid, err);
}

static int map_user(struct start *s, struct error *err)
{
    if (userns_make(s->uid, &s->userns_fd, err) < 0 || volume_give(s->volume_fd, err) < 0)
        return -1;
    return vm_volume_mount(s->volume_fd, s->userns_fd, &s->mount_fd, err);
}

static int make_group(struct start *s, struct error *err)
{
    const struct options *o = s->launch->options;

    return cgroup_make(o->cgroup, s->id, s->launch->config, o->any_cgroup, &s->group_fd, err);
}

static int make_socket(struct start *s, struct error *err)
{
    char path[108];

    remains_socket_path(s->launch->options, s->id, path);
    return listen_at(path, SOCK_STREAM, s->launch->options->group, &s->socket_fd, err);
}

static int open_status(struct start *s, struct error *err)
{
    return state_status_fd(&s->state, &s->status_fd, err);
}

static int bear(struct start *s, struct error *err)
{
    const struct birth b = { .config = s->launch->config,
                             .id = s->id,
                             .over = s->launch->options->state,
                             .argv = s->launch->options->argv,
                             .cgroup_fd = s->group_fd,
                             .volume_fd = s->mount_fd,
                             .userns_fd = s->userns_fd,
                             .socket_fd = s->socket_fd,
                             .status_fd = s->status_fd };
    return birth(&b, deadline_in(BIRTH_MS), err);
}

static const struct step {
    int (*run)(struct start *s, struct error *err);
    const char *point; /* after it */
} steps[] = {
    { find_volume, "launch.start.volume" }, { clean, "launch.start.clean" },
    { take_user, "launch.start.user" },     { map_user, "launch.start.mapped" },
    { make_group, "launch.start.group" },   { make_socket, "launch.start.socket" },
    { open_status, "launch.start.status" }, { bear, "launch.start.born" },
};

static int run_steps(struct start *s, struct error *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        if (steps[i].run(s, err) < 0)
            return -1;
        if (FAULT_FAIL(steps[i].point))
            return error_set(err, ERR_INTERNAL, "injected fault");
    }
    return 0;
}

static int look_for_it(struct start *s, bool *ret_running, struct error *err)
{
    bool running = false, stopping = false;

    if (remains_running(s->launch->options, s->id, &running, err) < 0 ||
        state_stopping(&s->state, &stopping, err) < 0)
        return -1;
    *ret_running = running && !stopping;
    return 0;
}

/* What can't be taken away now, the next start or stop takes: the first error is the answer. */
static void undo(const struct start *s)
{
    const struct options *o = s->launch->options;
    struct error e = ERROR_INIT;

    if (remains_kill(o, s->id, &e) < 0 || remains_remove_group(o, s->id, &e) < 0 ||
        remains_remove_socket(o, s->id, &e) < 0 || state_remove(&s->state, &e) < 0)
        log_warn("something is left of a VM that could not be started", KV("id", s->id),
                 KV("error", e.msg));
}

int verb_start(const struct launch *l, const struct request *q, json_t *reply, struct error *err)
{
    __attribute__((cleanup(start_release))) struct start s = { .launch = l,
                                                               .id = q->id,
                                                               .state = STATE_INIT,
                                                               .volume_fd = -1,
                                                               .userns_fd = -1,
                                                               .mount_fd = -1,
                                                               .group_fd = -1,
                                                               .socket_fd = -1,
                                                               .status_fd = -1 };
    bool running = false;

    if (state_open(l->options->state, q->id, &s.state, err) < 0)
        return -1;
    FAULT_POINT("launch.start.locked");
    if (look_for_it(&s, &running, err) < 0)
        return -1;
    if (!running && run_steps(&s, err) < 0) {
        undo(&s);
        return -1;
    }
    return reply_set(reply, "started", json_boolean(!running), err);
}

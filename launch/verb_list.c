/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/verb.h"

#include "common/cleanup.h"
#include "common/fs.h"
#include "launch/cgroup.h"
#include "launch/remains.h"
#include "launch/state.h"

#include <errno.h>

struct listing {
    const struct options *options;
    json_t *vms; /* borrowed */
};

struct vm {
    bool running, out_of_memory;
    char status[STATUS_MAX + 1];
    uint64_t uid, pid, memory;
};

/* A VM that goes while it is looked at has no control group: nothing runs. */
static int look_at_group(const struct options *o, const char *id, struct vm *vm, struct error *err)
{
    AUTO_CLOSE int fd = -1;
    struct error e = ERROR_INIT;
    pid_t pid = 0;

    if (cgroup_open(o->cgroup, id, &fd, &e) < 0)
        return e.code == ERR_NOT_FOUND ? 0 : error_pass(err, &e);
    if (cgroup_populated(fd, &vm->running, &e) < 0 || cgroup_init_pid(fd, &pid, &e) < 0) {
        vm->running = false;
        bool gone =
            faccessat(fd, "cgroup.events", F_OK, 0) < 0 && (errno == ENOENT || errno == ENODEV);
        return gone ? 0 : error_pass(err, &e);
    }
    vm->pid = (uint64_t)pid;
    vm->memory = cgroup_memory(fd);
    vm->out_of_memory = cgroup_out_of_memory(fd);
    return 0;
}

/* How it ended. Init writes nothing when it was killed with the rest; that and signal 9 are the
 * kernel's when memory ran out. */
static const char *status_of(const struct vm *vm)
{
    bool killed = vm->status[0] == '\0' || strcmp(vm->status, "signal 9") == 0;

    if (vm->running)
        return "";
    if (killed && vm->out_of_memory)
        return "out of memory";
    return vm->status[0] != '\0' ? vm->status : "killed";
}

static int add_vm(void *ctx, int base_fd, const char *id, struct error *err)
{
    struct listing *list = ctx;
    struct error e = ERROR_INIT;
    struct vm vm = { .running = false };
    uid_t uid = 0;

    /* before its user is noted there is nothing of it; when its user is gone, it is */
    if (state_read_uid(base_fd, id, &uid, &e) < 0)
        return e.code == ERR_NOT_FOUND ? 0 : error_pass(err, &e);
    if (look_at_group(list->options, id, &vm, err) < 0)
        return -1;
    if (state_read_status(base_fd, id, vm.status, &e) < 0 && e.code != ERR_NOT_FOUND)
        return error_pass(err, &e);
    json_t *item =
        json_pack("{ss ss ss sI sI sI}", "id", id, "state", vm.running ? "running" : "exited",
                  "status", status_of(&vm), "pid", (json_int_t)vm.pid, "uid", (json_int_t)uid,
                  "memory", (json_int_t)vm.memory);
    if (json_array_append_new(list->vms, item) < 0)
        return error_memory(err);
    return 0;
}

int launch_list(const struct launch *l, const struct request *q, json_t *reply, struct error *err)
{
    AUTO_JSON json_t *vms = json_array();
    AUTO_CLOSE int base_fd = -1;
    struct listing list = { .options = l->options, .vms = vms };

    if (fs_open_dir(l->options->state, &base_fd, err) < 0 ||
        state_each(base_fd, add_vm, &list, err) < 0)
        return -1;
    return reply_set(reply, "vms", TAKE_PTR(vms), err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/options.h"

#include "common/flags.h"
#include "common/log.h"

#define SOCKET_NAME_MAX (107u - 38u) /* sun_path without NUL, "/", the id and ".sock" */

/* The command line is there once in a process, as its flags' targets are. */
static struct options o;

const struct flags_program options_program = { "coffer-launch",
                                               "usage: coffer-launch --peer USER:GROUP [flags]" };
static const struct flag flags[] = {
    { "socket", NULL, FLAG_STRING, &o.socket, "/run/coffer/launch/launch.sock",
      "unix socket to serve; its directory must exist", NULL },
    { "socket-group", NULL, FLAG_STRING, &o.socket_group, "root",
      "group, by number or name, that may connect to this socket and to the VMs'", NULL },
    { "peer", NULL, FLAG_STRINGS, &o.peers_text, NULL,
      "USER:GROUP that may ask for something, by number or name; repeatable, at least one", NULL },
    { "config", NULL, FLAG_STRING, &o.config, "/etc/coffer/launch.json", "what a VM is", NULL },
    { "volumes", NULL, FLAG_STRING, &o.volumes, "/run/coffer/clouds",
      "directory of the volumes: <id>/volume is mounted there", NULL },
    { "sockets", NULL, FLAG_STRING, &o.sockets, "/run/coffer/vms",
      "directory of the VMs' own sockets, <id>.sock", NULL },
    { "cgroup", NULL, FLAG_STRING, &o.cgroup, "/sys/fs/cgroup/coffer-vms",
      "directory of the VMs' control groups; a part of cgroup2 that is this program's", NULL },
    { "state", NULL, FLAG_STRING, &o.state, "/run/coffer/launch",
      "directory with a folder for each VM, on a file system that a reboot empties", NULL },
    { "verb", NULL, FLAG_BOOL, &o.verb, "false",
      "answer one request on stdin and stdout; coffer-launch starts itself so", NULL },
#ifdef COFFER_FAULT
    { "any-volume", NULL, FLAG_BOOL, &o.any_volume, "false", "tests: a volume may be on anything",
      NULL },
    { "any-cgroup", NULL, FLAG_BOOL, &o.any_cgroup, "false",
      "tests: do without the limits that this kernel hasn't got", NULL },
#endif
    LOG_LEVEL_FLAG(&o.log_level),
    LOG_FORMAT_FLAG(&o.log_format),
};

static int check_paths(struct error *err)
{
    const struct {
        const char *flag, *path;
    } rows[] = { { "config", o.config },
                 { "volumes", o.volumes },
                 { "sockets", o.sockets },
                 { "cgroup", o.cgroup },
                 { "state", o.state } };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if (rows[i].path[0] != '/')
            return error_set(err, ERR_INVALID, "--%s '%s' must be an absolute path", rows[i].flag,
                             rows[i].path);
    }
    if (strlen(o.sockets) > SOCKET_NAME_MAX)
        return error_set(err, ERR_INVALID, "--sockets '%s' is longer than %u bytes", o.sockets,
                         SOCKET_NAME_MAX);
    return 0;
}

int options_read(int argc, char **argv, struct options *ret, bool *ret_done, struct error *err)
{
    if (flags_daemon(&options_program, flags, ARRAY_SIZE(flags), argc, argv, ret_done, err) < 0)
        return -1;
    if (*ret_done)
        return 0;
    if (check_paths(err) < 0 || peers_parse(&o.peers_text, "/etc", &o.peers, err) < 0)
        return -1;
    if (peers_group_parse(o.socket_group, "/etc", &o.group, err) < 0)
        return error_prefix(err, "--socket-group");
    if (log_setup_by_name(o.log_level, o.log_format, err) < 0)
        return -1;
    o.argv = argv;
    *ret = o;
    return 0;
}

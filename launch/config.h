/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h: what every VM of this host is: /etc/coffer/launch.json, strict JSON.
 *
 *   {"command": ["/usr/bin/node", "/usr/share/coffer/vm/server.mjs"],
 *    "memory": 268435456, "pids": 64, "cpu_percent": 100,
 *    "uids": {"first": 2000000, "count": 100000},
 *    "folders": ["/opt/vm"]}
 *
 * `folders` (optional) are shown to the VM read-only at their own paths, beside /usr. Bytes;
 * processes and threads; percent of one processor. Immutable after it is loaded.
 */
#ifndef COFFER_LAUNCH_CONFIG_H
#define COFFER_LAUNCH_CONFIG_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"

#include <sys/types.h>

#define COMMAND_WORDS 32u
#define FOLDERS_MAX   8u

struct launch_config {
    char *command[COMMAND_WORDS + 1]; /* owned; ends with NULL */
    char *folders[FOLDERS_MAX + 1];   /* owned; ends with NULL */
    uint64_t memory, pids, cpu_percent;
    uid_t uid_first;
    uint32_t uid_count;
};

/* ERR_INVALID with the field that is wrong. */
int launch_config_load(const char *path, struct launch_config **ret, struct error *err) MUST_CHECK;
int launch_config_parse(const char *text, size_t len, struct launch_config **ret,
                        struct error *err) MUST_CHECK;
void launch_config_free(struct launch_config *c);
DEFINE_AUTO(launch_config, launch_config_free)
#define AUTO_LAUNCH_CONFIG __attribute__((cleanup(cleanup_launch_config)))

#endif

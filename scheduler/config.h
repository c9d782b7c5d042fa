/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h: the scheduler's own file (default /etc/coffer/scheduler.json), strict JSON as
 * volume/config.h's: an unknown key or a wrong value is named. coffer-scheduler(8) has all of it.
 *
 *   {"driver": "local",
 *    "url": "https://clouds.example.com:8444/clouds/",
 *    "tenant": "clouds", "size": 1073741824, "fs": "ext4",
 *    "vm": {"memory": 268435456, "ready_path": "/personalcloud/", "ready_seconds": 60,
 *           "stop_seconds": 10},
 *    "place": {"headroom_percent": 10, "spread": false, "clouds_max": 0},
 *    "local": {...}}
 *
 * Immutable after it is loaded, so thread-safe.
 */
#ifndef COFFER_SCHEDULER_CONFIG_H
#define COFFER_SCHEDULER_CONFIG_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "common/json.h"
#include "volume/id.h"

struct scheduler_config {
    const struct driver_ops *driver;
    json_t *options; /* the object named like the driver; the driver checks it */
    char url[512];   /* where VMs are reached: this, the cloud's id, "/" */
    char tenant[TENANT_MAX + 1];
    char fs[16];
    uint64_t size;          /* of a new cloud's volume, bytes */
    uint64_t memory;        /* of a VM, bytes */
    char ready_path[128];   /* a VM is ready when it answers this with 2xx */
    uint64_t ready_seconds; /* how long a VM may take to become ready */
    uint64_t stop_seconds;  /* its grace, from SIGTERM to SIGKILL */
    uint32_t headroom_percent;
    bool spread;
    uint64_t clouds_max; /* 0: as many as there is room for */
    /* Not of the file: main sets them from the command line before the driver is opened. */
    const char *keyd_socket, *kms;
};

int scheduler_config_load(const char *path, struct scheduler_config **ret,
                          struct error *err) MUST_CHECK;
int scheduler_config_parse(const char *text, size_t len, struct scheduler_config **ret,
                           struct error *err) MUST_CHECK;
void scheduler_config_free(struct scheduler_config *c);
DEFINE_AUTO(scheduler_config, scheduler_config_free)
#define AUTO_SCHEDULER_CONFIG __attribute__((cleanup(cleanup_scheduler_config)))

#endif

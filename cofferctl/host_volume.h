/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/host_volume.h: on a host without Kubernetes cofferctl is the CSI client, so it keeps
 * what such a client keeps: the id and the volume_context that CreateVolume returned (the record in
 * the pool is untrusted input; this is what it is compared with), the capability, and where the
 * volume is to be mounted. One strict JSON object per volume (docs/host.md). What *is* mounted is
 * never stored: the kernel says it.
 */
#ifndef COFFER_COFFERCTL_HOST_VOLUME_H
#define COFFER_COFFERCTL_HOST_VOLUME_H

#include "common/base.h"
#include "common/error.h"
#include "common/strbuf.h"
#include "volume/id.h"

#include <jansson.h>
#include <sys/types.h>

#define HOST_VOLUME_VERSION  1
#define HOST_VOLUME_MAX      MIB(1) /* bytes of the file */
#define HOST_VOLUME_NAME_MAX 63
#define HOST_TARGETS_MAX     16
#define HOST_PATH_MAX        1024

struct host_target {
    char path[HOST_PATH_MAX];
    bool read_only;
    bool kept; /* the directory was there before us and stays: what it was like */
    mode_t mode;
    uid_t uid;
    gid_t gid;
};

struct host_volume {
    char name[HOST_VOLUME_NAME_MAX + 1];
    char id[VOLUME_ID_MAX + 1];
    char fs[16];          /* "none": raw block */
    char access_mode[16]; /* "RWO", "RWOP", "ROX" */
    json_t *context;      /* object of strings; owned */
    struct host_target targets[HOST_TARGETS_MAX];
    size_t n_targets;
};

/* Letters, digits, '.', '_', '-', first a letter or digit, and not an id. ERR_INVALID. */
int host_volume_name_check(const char *name, struct error *err) MUST_CHECK;

/* ERR_DATA_LOSS naming what is wrong. On success *ret is to be released. */
int host_volume_decode(const char *text, size_t len, struct host_volume *ret,
                       struct error *err) MUST_CHECK;
int host_volume_encode(const struct host_volume *v, struct strbuf *sb,
                       struct error *err) MUST_CHECK;
void host_volume_release(struct host_volume *v);

/* The index, or n_targets. */
size_t host_volume_find_target(const struct host_volume *v, const char *path);
void host_volume_remove_target(struct host_volume *v, size_t index);

/* CSI's VolumeCapability as csi/client.h takes it; new reference, or NULL when out of memory or the
 * access mode is none of ours. */
json_t *host_volume_capability(const struct host_volume *v);
#define HOST_ACCESS_MODES "RWO|RWOP|ROX"

#define HOST_VOLUME_INIT                 \
    {                                    \
        .context = NULL, .n_targets = 0, \
    }
#define AUTO_HOST_VOLUME __attribute__((cleanup(host_volume_release)))

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/host_store.h: the folder of what cofferctl keeps on a host (default /var/lib/coffer):
 *   volumes/NAME.json   host_volume.h, 0600, replaced whole and durable before a call goes on
 *   volumes/NAME.lock   held (flock) by the cofferctl that works on the volume; goes with it
 *   staging/ID          where a volume is staged; exists only meanwhile
 *
 * All of it is root's. One thread; any number of processes.
 */
#ifndef COFFER_COFFERCTL_HOST_STORE_H
#define COFFER_COFFERCTL_HOST_STORE_H

#include "common/base.h"
#include "common/error.h"
#include "cofferctl/host_volume.h"

struct host_store {
    int dir_fd;               /* volumes/ */
    char root[HOST_PATH_MAX]; /* without symlinks */
};

/* Makes the folders that are missing, 0700. */
int host_store_open(const char *path, struct host_store *ret, struct error *err) MUST_CHECK;
void host_store_close(struct host_store *s);
#define HOST_STORE_INIT \
    {                   \
        .dir_fd = -1    \
    }
#define AUTO_HOST_STORE __attribute__((cleanup(host_store_close)))

int host_store_staging(const struct host_store *s, const char *id, char ret[HOST_PATH_MAX],
                       struct error *err) MUST_CHECK;

/* One volume's name, locked; whoever only reads needs no lock. */
struct host_lock {
    const struct host_store *store;
    int fd;
    char name[HOST_VOLUME_NAME_MAX + 1];
};
/* Waits until the deadline (common/deadline.h), then ERR_ABORTED. */
int host_lock_take(const struct host_store *s, const char *name, uint64_t deadline,
                   struct host_lock *ret, struct error *err) MUST_CHECK;
/* The lock file of a name that has no volume (any more) goes with the lock. */
void host_lock_release(struct host_lock *l);
#define HOST_LOCK_INIT \
    {                  \
        .fd = -1       \
    }
#define AUTO_HOST_LOCK __attribute__((cleanup(host_lock_release)))

/* ERR_NOT_FOUND: cofferctl keeps no volume of that name. ERR_DATA_LOSS: the file can't be trusted.
 * *ret is to be released. */
int host_store_load(const struct host_store *s, const char *name, struct host_volume *ret,
                    struct error *err) MUST_CHECK;
int host_store_save(const struct host_store *s, const struct host_volume *v,
                    struct error *err) MUST_CHECK;
int host_store_remove(const struct host_store *s, const char *name, struct error *err) MUST_CHECK;

/* The name of the volume with that id (find_id), or that is to be mounted at that path.
 * ERR_NOT_FOUND when all files were read and none fits; when one can't be read, that is the error.
 */
int host_store_find_id(const struct host_store *s, const char *id,
                       char ret[HOST_VOLUME_NAME_MAX + 1], struct error *err) MUST_CHECK;
int host_store_find_path(const struct host_store *s, const char *path,
                         char ret[HOST_VOLUME_NAME_MAX + 1], struct error *err) MUST_CHECK;
/* A name or an id, as a command line gives it. */
int host_store_find(const struct host_store *s, const char *text,
                    char ret[HOST_VOLUME_NAME_MAX + 1], struct error *err) MUST_CHECK;

#endif

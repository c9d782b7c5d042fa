/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file_cache.h: what the records of a pool said when ListVolumes last read them, so that an
 * unchanged one costs one stat. Nothing else may use it: all other calls read the record.
 *
 * What is remembered: of a shard, its volumes' names, by the directory's inode and change time; of
 * a record, its summary, by the inode, change time and size of its file, and by the inode of the
 * directory it lies in. Whatever differs is read anew, and what can't be read is never remembered,
 * so it is an error each time. A change leaves no trace when it falls into the same tick of the
 * file system's clock as the one before it; so only what hasn't changed for FILE_CACHE_SETTLE
 * seconds is remembered. That wants the clock that stamps files to be this machine's: the pool's
 * file system is local (backend_ops.node_local).
 *
 * One cache a pool, made by the first list_records; nothing before. It holds at most FILE_CACHE_MAX
 * bytes (some 190,000 volumes); a shard that would exceed it isn't remembered and costs a list what
 * it cost the first time. Thread-safe: a lock per shard, held while the shard is listed, so a list
 * waits for another one's system calls and for its callback.
 */
#ifndef COFFER_BACKENDS_FILE_CACHE_H
#define COFFER_BACKENDS_FILE_CACHE_H

#include "backends/backend.h"
#include "common/base.h"

#define FILE_CACHE_MAX    MIB(32)
#define FILE_CACHE_SETTLE 2 /* twice the coarsest stamp (ext4 with inodes of 128 bytes) */

struct file_cache;

/* backend_ops.list_records */
int file_list_records(struct pool *pool, const char *after, list_record_cb *cb, void *ctx,
                      struct error *err);
void file_cache_free(struct file_cache *c); /* NULL is fine */

/* For tests and figures: what is held. */
size_t file_cache_bytes(const struct pool *pool);
size_t file_cache_records(const struct pool *pool);

#endif

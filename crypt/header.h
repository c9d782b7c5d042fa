/* SPDX-License-Identifier: Apache-2.0 */
/*
 * header.h: the disk's header, read once. What was checked is what is used: the copy lives in a
 * sealed memfd, and the disk's own header isn't read again by any keyed verb.
 */
#ifndef COFFER_CRYPT_HEADER_H
#define COFFER_CRYPT_HEADER_H

#include "common/base.h"
#include "common/error.h"
#include "volume/record.h"

#define FD_PATH_MAX 32

void fd_path(int fd, char ret[FD_PATH_MAX]); /* "/proc/self/fd/N" */

/* Reads `len` bytes (a multiple of 4096) from the start of the device or file behind fd, by
 * O_DIRECT through a description of its own; `to` is 4096-aligned. Short: ERR_DATA_LOSS; a read
 * error is an error. */
int header_read_direct(int fd, void *to, size_t len, struct error *err) MUST_CHECK;

/* A sealed memfd of 4 MiB that starts with a copy of the area; the rest is a hole. */
int header_memfd(const void *area, size_t len, int *ret, struct error *err) MUST_CHECK;

/* Lets nobody change it any more. */
int header_memfd_seal(int memfd, struct error *err) MUST_CHECK;

/* Reads the copied area (806,912 bytes) of a memfd of ours. */
int header_memfd_read(int memfd, void *to, struct error *err) MUST_CHECK;

/* Writes that area of a memfd of ours into a file, over what an earlier call left there, and
 * flushes it. The file gets the 4 MiB that `cryptsetup luksHeaderRestore` wants last: a shorter one
 * isn't whole, and is refused there. */
int header_memfd_save(int memfd, int to, struct error *err) MUST_CHECK;

/* 4096-aligned memory for O_DIRECT; free it. */
void *header_aligned(size_t len, struct error *err) MUST_CHECK;

/* Another memfd with the same area, not sealed. */
int header_memfd_copy(int memfd, int *ret, struct error *err) MUST_CHECK;

/* Copies both metadata areas and the three keyslot areas (806,912 bytes) into a sparse memfd of 4
 * MiB and seals it against every change. */
int header_seal(int device_fd, int *ret_memfd, struct error *err) MUST_CHECK;

/* May this device be formatted as `uuid`? stored_state RECORD_NEW: only when the first 4 MiB read
 * as zero. RECORD_FORMATTING: zero, or what a killed format of the same uuid leaves (half a header,
 * random keyslots); a LUKS header of another uuid or content of another kind is refused.
 * ERR_DATA_LOSS says what is there. */
int header_may_format(int device_fd, const char *uuid, enum record_state stored_state,
                      struct error *err) MUST_CHECK;

#endif

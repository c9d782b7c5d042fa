/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore.h: what `cofferctl record restore` may write, as one decision without side effects. It
 * must never make a volume that holds data one that may be formatted, so only a `ready` record is
 * ever restored; an earlier state holds nothing worth bringing back. Nothing is lowered: neither
 * the generation nor a state, and `erased` is final. Pure.
 */
#ifndef COFFER_VOLUME_RESTORE_H
#define COFFER_VOLUME_RESTORE_H

#include "common/base.h"
#include "common/error.h"
#include "volume/record.h"

enum restore_found { RESTORE_NOTHING, RESTORE_UNREADABLE, RESTORE_RECORD };

struct restore_there { /* what is in the volume's place now */
    enum restore_found found;
    struct record record; /* RESTORE_RECORD */
    char problem[300];    /* RESTORE_UNREADABLE: why */
    /* What an unreadable record still says, where it is JSON: it must not be lowered either. */
    uint64_t gen, version; /* 0: it doesn't say */
    char state[16];        /* "" */
    bool has_image;
    uint64_t image_bytes; /* of the image */
    char dm_uuid[129];    /* of a live mapping of this volume; "" none */
};

/* Judges the stored text (any bytes) of the volume with that id. Fails for want of memory alone. */
int restore_read(const char *text, size_t len, const char *id, struct restore_there *ret,
                 struct error *err) MUST_CHECK;

/* *ret: what is to be written, whole: the backup with generation max + 1 and the size that the
 * image has. Every other field is the backup's (the MAC covers most of them). Refusals name what
 * forbids it: ERR_PRECONDITION, ERR_DATA_LOSS. */
int restore_plan(const struct restore_there *there, const struct record *backup, struct record *ret,
                 struct error *err) MUST_CHECK;

/* Says in *ret which fields differ ("key, tenant"), "" when none but `gen` does; "?": for want of
 * memory nobody can say. */
void restore_difference(const struct record *a, const struct record *b, char *ret, size_t size);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unread.h: what the last round couldn't read: the facts of one cloud, or everything of a node.
 * What can't be read is never taken for absent, and hides nothing but itself: a cloud that is, or
 * may be, one of these is neither told of, nor made, nor forgotten, nor taken up by the rounds.
 *
 * Which cloud one volume is follows from its id, as far as the driver names volumes. A node that
 * was read before hides the clouds that were seen there; one that was never read may have any.
 * Plain values; not thread-safe: scheduler.h's lock guards the list that the scheduler has.
 */
#ifndef COFFER_SCHEDULER_UNREAD_H
#define COFFER_SCHEDULER_UNREAD_H

#include "common/base.h"
#include "common/error.h"
#include "scheduler/driver.h"

#define UNREAD_MAX 4096u /* rows; a round with more fails */

struct unread {
    char id[CLOUD_ID_LEN + 1];         /* "": which cloud it is follows from `volume` */
    char volume[CLOUD_HANDLE_MAX + 1]; /* this and `id` "": everything of the node */
    char node[NODE_NAME_MAX + 1];
    char reason[CLOUD_REASON_MAX + 1]; /* for the log: it may name paths of a host */
    uint64_t since;                    /* clock_ms() of the first round of those in a row */
    bool never_read;                   /* a node that no round has read yet */
};

/* Zeroes are an empty list. */
struct unread_list {
    struct unread *items; /* owned */
    size_t n, cap;
    uint64_t seq; /* of the round: what was seen later is no part of it (table.h) */
};

void unread_list_clear(struct unread_list *l);
#define AUTO_UNREAD_LIST __attribute__((cleanup(unread_list_clear)))

bool unread_is_node(const struct unread *u);

/* A row of what a driver tells with `unread` (cloud.h). ERR_EXHAUSTED: no memory, or too many. */
int unread_list_add(struct unread_list *l, const struct cloud *c, struct error *err) MUST_CHECK;

/* Called for each row that is new (`is_new`), or was in the list before and isn't any more. */
typedef void unread_cb(void *ctx, const struct unread *u, bool is_new);
/* What was in the list before keeps its `since`; others begin at `now`. first: no round has ended
 * well yet, so that a node which isn't read never was. cb may be NULL. */
void unread_list_follow(struct unread_list *l, const struct unread_list *before, uint64_t now,
                        bool first, unread_cb *cb, void *ctx);

struct unread_question {
    const char *id;     /* the cloud's */
    const char *volume; /* as it was seen last; "": none was */
    const char *node;   /* likewise */
    uint64_t at; /* a node is asked about only when it can't be read since then; clock_ms() */
    const struct driver_ops *ops;
    struct driver *driver;
};
/* The row that is that cloud, or may be; NULL: none. */
const struct unread *unread_find(const struct unread_list *l, const struct unread_question *q);

#endif

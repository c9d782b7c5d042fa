/* SPDX-License-Identifier: Apache-2.0 */
/*
 * place.h: on which node a cloud belongs: a pure function of what the nodes are and have. No I/O,
 * no time, no chance: the same input gives the same answer, which can be explained.
 *
 * A cloud that has a volume goes where that is, or nowhere (sticky). Else, of the nodes with room
 * for its VM and its volume with the headroom left free: the fullest (bin packing), or the emptiest
 * when spread is asked for; equals go by name. All sizes in bytes.
 */
#ifndef COFFER_SCHEDULER_PLACE_H
#define COFFER_SCHEDULER_PLACE_H

#include "common/base.h"
#include "common/error.h"
#include "common/strbuf.h"

struct place_node {
    char name[254];
    bool schedulable;             /* it answers, and takes new ones */
    uint64_t memory, memory_used; /* used: what its VMs may use, not what they do */
    uint64_t storage_free;        /* for volumes that are not there yet */
    uint32_t vms, vms_max;        /* vms_max 0: no limit */
};

struct place_request {
    const char *volume_node; /* "": there is no volume yet */
    uint64_t memory, storage;
    uint32_t headroom_percent; /* of memory, to be left free by new clouds; 0 to 90 */
    bool spread;
};

enum place_verdict {
    PLACE_FITS,
    PLACE_OTHER_NODE, /* its volume is elsewhere */
    PLACE_CLOSED,     /* not schedulable */
    PLACE_NO_MEMORY,
    PLACE_NO_STORAGE,
    PLACE_TOO_MANY, /* vms_max */
    PLACE_VERDICTS,
};

/* *ret: index into nodes. ERR_EXHAUSTED: no node fits; the text counts why. ERR_UNAVAILABLE: the
 * volume's node isn't there, or closed; or every node is closed. The headroom is for VMs that are
 * at home: a cloud that has a volume may use it. One pass over the nodes. */
int place(const struct place_node *nodes, size_t n, const struct place_request *r, size_t *ret,
          struct error *err) MUST_CHECK;
enum place_verdict place_judge(const struct place_node *node, const struct place_request *r);
/* A line for each node: its name, the verdict, the figures behind it; the chosen one marked with *.
 * At most PLACE_EXPLAINED lines, the best ones first; the rest is counted. When none fits, the
 * first line is place's sentence. */
#define PLACE_EXPLAINED 50u
int place_explain(const struct place_node *nodes, size_t n, const struct place_request *r,
                  struct strbuf *to, struct error *err) MUST_CHECK;

#endif

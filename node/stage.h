/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/stage.h: NodeStage as a step table: attach, unlock, filesystem, mount, grow. A step is
 * idempotent, says whether this call changed anything, and can be undone; steps don't know which
 * RPC runs them.
 */
#ifndef COFFER_NODE_STAGE_H
#define COFFER_NODE_STAGE_H

#include "node/filesystem.h"
#include "node/mapper.h"
#include "node/mounts.h"
#include "node/op.h"
#include "node/request.h"

struct stage {
    struct node_op *op;
    const char *path; /* staging target path */
    struct usage use;
    const struct filesystem *fs;
    struct mapper_node node;  /* from the unlock step on */
    char digest[65], mac[65]; /* of a format this call made; go into the record with `ready` */
    char recipients[RECIPIENTS_TEXT_MAX + 1]; /* the same; under that mac */
    bool mounted_before;                      /* the staging path already shows this volume, */
    bool failed;                              /* which has turned read-only after an error */
};

struct stage_step {
    const char *name;
    const char *before, *after; /* fault points */
    int (*apply)(struct stage *s, bool *changed, struct error *err);
    int (*undo)(struct stage *s, struct error *err); /* NULL: nothing to undo */
    const char *phase;                               /* its time's name in the log */
};

#define STAGE_STEPS_MAX 8
/* Runs a table of at most that many steps; on failure undoes what this call changed, backwards. A
 * step that fails has cleaned up after itself. When an undo fails the error becomes ERR_ABORTED. */
int stage_run_steps(const struct stage_step *steps, size_t n, struct stage *s,
                    struct error *err) MUST_CHECK;
/* The same with NodeStage's own table: for a volume that pods open, NodePublish runs it (pod.h). */
int stage_run(struct stage *s, struct error *err) MUST_CHECK;
/* What is asked before: s->fs is filled in, and what is mounted must fit and leave room. */
int stage_look(struct stage *s, struct error *err) MUST_CHECK;
/* stage_run; then the device node is closed again, and a full pool is named in an error. */
int stage_finish(struct stage *s, struct error *err) MUST_CHECK;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd/ops_job.h: what the files of ops share: how an op begins, hands a key over and ends. One
 * thread.
 */
#ifndef COFFER_KEYD_OPS_JOB_H
#define COFFER_KEYD_OPS_JOB_H

#include "common/base.h"
#include "keyd/ops.h"

/* The deadline and the key service; q->job is ready for a driver. */
int ops_begin(struct keyd_request *q, const struct kms **ret, struct error *err) MUST_CHECK;
/* The same for a volume's key: what it is bound to is looked at. */
int ops_prepare(struct keyd_request *q, const struct kms **ret, struct error *err) MUST_CHECK;
int ops_check_use(const char *use, struct error *err) MUST_CHECK;
struct keyd_request *ops_request_of(struct kms_job *job);
/* Into the caller's pipe. */
int ops_hand_over(const struct keyd_request *q, const struct secret *plain,
                  struct error *err) MUST_CHECK;
/* Counts it, writes its audit line, answers. */
void ops_end_ok(struct keyd_request *q);
void ops_end_failed(struct keyd_request *q, const struct error *err);

/* ops_client.c */
void ops_unwrap_client(struct keyd_request *q);
void ops_server_key(struct keyd_request *q);

#endif

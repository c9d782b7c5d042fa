/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/key_scan.h: every record of every configured pool, read without a lock, for the verbs
 * of group "key". What can't be read is kept as a gap: whoever decides by what was seen must know
 * that there was more. One thread.
 */
#ifndef COFFER_COFFERCTL_KEY_SCAN_H
#define COFFER_COFFERCTL_KEY_SCAN_H

#include "backends/backend.h"
#include "common/base.h"
#include "common/error.h"
#include "common/json.h"

/* Answers -1 with err set to end the scan. */
typedef int key_scan_cb(void *ctx, struct pool *pool, const struct volume_id *id,
                        const struct record *r, struct error *err);

/* A place without a record is no volume: its create mints after it wrote one. gaps: an array that
 * gets {"what", "problem"} for each pool or record that can't be read. */
int key_scan(struct pool_set *set, json_t *gaps, key_scan_cb *cb, void *ctx,
             struct error *err) MUST_CHECK;
/* Adds one. */
int key_scan_gap(json_t *gaps, const char *what, const char *problem, struct error *err) MUST_CHECK;

#endif

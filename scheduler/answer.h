/* SPDX-License-Identifier: Apache-2.0 */
/* answer.h: what find, the list of devices and the admin's pages say of a cloud, as JSON. The
 * caller holds the scheduler's lock. Each returns a new value; NULL: out of memory. */
#ifndef COFFER_SCHEDULER_ANSWER_H
#define COFFER_SCHEDULER_ANSWER_H

#include "common/base.h"
#include "common/json.h"
#include "scheduler/scheduler.h"

/* As they are told; find's status=number tells these numbers. */
enum cloud_status {
    CLOUD_NONEXISTENT,
    CLOUD_ATTACHED,
    CLOUD_DETACHED,
    CLOUD_PENDING,
    CLOUD_FAILURE,
};
extern const char *const cloud_status_names[5];

/* e NULL: there is none. */
enum cloud_status answer_status(const struct entry *e);

/* What find says to the device of that name. *ret_http: 200 or 404. ERR_UNAVAILABLE: what a new
 * cloud needs isn't known now. */
int answer_find(struct scheduler *s, const struct entry *e, const char *name, bool number,
                json_t **ret, unsigned int *ret_http, struct error *err) MUST_CHECK;
json_t *answer_devices(const struct entry *e);
/* The list as the device of that name gets it when it asks, and what find tells it when the volume
 * is closed: serverKey, volumeId, uuid, its own wrappedKey and algorithm. So a device can lend its
 * key while the volume is open, to change the list. Errors as answer_find. */
int answer_own(struct scheduler *s, const struct entry *e, const char *name, json_t **ret,
               struct error *err) MUST_CHECK;
/* Rows of the admin's list: a cloud, with what hides it (NULL: nothing), and what can't be read and
 * is of no cloud that is known. Their status is then "unreadable". */
json_t *answer_cloud(const struct entry *e, const struct unread *u);
json_t *answer_unread(const struct unread *u);

#endif

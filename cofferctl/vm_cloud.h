/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/vm_cloud.h: a device's cloud as coffer-scheduler tells of it, what the device lends it,
 * and the wait for an operation's end. What "found" is called is the answer of find
 * (docs/scheduler.md); its texts are somebody else's and are checked where they are used.
 */
#ifndef COFFER_COFFERCTL_VM_CLOUD_H
#define COFFER_COFFERCTL_VM_CLOUD_H

#include "common/base.h"
#include "cofferctl/vm_api.h"
#include "device/volume.h"

/* The text of that name in an answer; "" when it isn't there. */
const char *vm_text(const json_t *answer, const char *name);
bool vm_is(const json_t *found, const char *status);

/* Now. ERR_UNAVAILABLE: the answer is of another device, or none. */
int vm_find(struct vm_api *a, json_t **ret, struct error *err) MUST_CHECK;
/* When no operation runs on it any more. Says on stderr what is done meanwhile. */
int vm_settled(struct vm_api *a, json_t **ret, struct error *err) MUST_CHECK;

/* What a session is bound to and encrypted for, out of an answer: its serverKey, which must be the
 * one of --server-key, and its volumeId. uuid: the volume's. Borrowed from the answer. */
int vm_lending(const json_t *answer, const char *uuid, struct device_lending *ret,
               struct error *err) MUST_CHECK;
/* The storage key, from an answer with `wrappedKey`. */
int vm_storage_key(const struct vm_api *a, const json_t *answer, struct secret **ret,
                   struct error *err) MUST_CHECK;
/* Adds session and serverKey to a request's body, by such an answer. */
int vm_add_session(const struct vm_api *a, const json_t *answer, json_t *body,
                   struct error *err) MUST_CHECK;

/* An answer with `wrappedKey`: found itself, or while the volume is open the list of devices, which
 * a device gets by a proof. */
int vm_own(struct vm_api *a, const json_t *found, json_t **ret, struct error *err) MUST_CHECK;

/* Opens the volume by a new session, waits until the VM answers. verb: "mount", "unlock". */
int vm_open(struct vm_api *a, const char *verb, const json_t *found, json_t **ret,
            struct error *err) MUST_CHECK;
/* ERR_ABORTED with the reason when the answer says failure. */
int vm_judge(const json_t *found, struct error *err) MUST_CHECK;
/* What find said, for people or programs. */
int vm_show(const struct cli *cli, const json_t *found, struct error *err) MUST_CHECK;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/verb.h"

#include "common/deadline.h"
#include "common/fault.h"
#include "launch/remains.h"
#include "launch/state.h"

/* The folder is made when it isn't there: with its lock nobody else starts or stops that VM, and
 * what an administrator left of it is found all the same. */
int verb_stop(const struct launch *l, const struct request *q, json_t *reply, struct error *err)
{
    const struct options *o = l->options;
    AUTO_STATE struct state state = STATE_INIT;

    if (state_open(o->state, q->id, &state, err) < 0)
        return -1;
    FAULT_POINT("launch.stop.locked");
    if (state_set_stopping(&state, true, err) < 0)
        return -1;
    FAULT_POINT("launch.stop.noted");
    if (remains_ask(o, q->id, deadline_in(q->grace_ms), err) < 0)
        return -1;
    FAULT_POINT("launch.stop.asked");
    if (remains_kill(o, q->id, err) < 0)
        return -1;
    FAULT_POINT("launch.stop.ended");
    if (remains_remove_group(o, q->id, err) < 0)
        return -1;
    FAULT_POINT("launch.stop.group");
    if (remains_remove_socket(o, q->id, err) < 0)
        return -1;
    FAULT_POINT("launch.stop.socket");
    if (state_remove(&state, err) < 0)
        return -1;
    FAULT_POINT("launch.stop.removed");
    return 0;
}

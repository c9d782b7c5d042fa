/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/verb.h"

#include "common/deadline.h"
#include "common/fault.h"
#include "crypt/dm.h"

#define TRIES    10 /* udev and blkid on a host open new and closing devices for a moment */
#define PAUSE_MS 200u

static int refuse_other(const struct mapping *m, const struct request *q, struct error *err)
{
    /* a create that was killed may have left a device without uuid: nothing that anybody could use
     */
    if (q->dm_uuid[0] == '\0' || strcmp(m->dm_uuid, q->dm_uuid) == 0 ||
        (m->state == MAPPING_ZOMBIE && m->dm_uuid[0] == '\0'))
        return 0;
    return error_set(err, ERR_PRECONDITION,
                     "mapping '%s' has the dm uuid '%s' instead of '%s': it is not closed", m->name,
                     m->dm_uuid, q->dm_uuid);
}

static int defer_zombie(const struct mapping *m, struct error *err)
{
    if (dm_remove(m->name, true, err) < 0)
        return -1;
    return error_set(err, ERR_ABORTED,
                     "mapping '%s' is dead (%s) and still open (%d): it goes with its last opener",
                     m->name, m->why, m->open_count);
}

/* One try: 1 = it is open, try again; 0 = gone; -1. */
static int try_close(const struct request *q, struct mapping *m, struct error *err)
{
    struct error local = ERROR_INIT;

    if (dm_inspect(q->name, m, NULL, &local) < 0)
        return local.code == ERR_NOT_FOUND ? 0 : error_pass(err, &local);
    if (refuse_other(m, q, err) < 0)
        return -1;
    if (m->open_count > 0)
        return 1;
    FAULT_POINT("crypt:close:remove");
    if (dm_remove(q->name, false, &local) == 0)
        return 0;
    return local.code == ERR_ABORTED ? 1 : error_pass(err, &local);
}

int verb_close(struct request *q, json_t *reply, struct error *err)
{
    struct mapping m = { .name = "" };

    for (int i = 0; i < TRIES; i++) {
        int r = try_close(q, &m, err);

        if (r < 0)
            return -1;
        if (r == 0) {
            dm_drop_node(q->name);
            return 0;
        }
        if (deadline_left(q->deadline) < PAUSE_MS)
            break;
        sleep_ms(PAUSE_MS);
    }
    if (m.state == MAPPING_ZOMBIE)
        return defer_zombie(&m, err);
    return error_set(err, ERR_ABORTED, "mapping '%s' is open (%d)", q->name, m.open_count);
}

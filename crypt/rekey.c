/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/rekey.h"

static int hand_over(struct luks *copy, struct luks *ret)
{
    *ret = *copy;
    *copy = (struct luks)LUKS_INIT;
    return 0;
}

static bool any(const bool slots[GEOMETRY_SLOTS])
{
    for (unsigned i = 0; i < GEOMETRY_SLOTS; i++) {
        if (slots[i])
            return true;
    }
    return false;
}

/* The lowest number without a keyslot, or the lowest of one that `current` doesn't open. */
static int choose_slot(struct luks *copy, const struct secret *current, int *ret, struct error *err)
{
    bool opens[GEOMETRY_SLOTS];

    if (luks_opens(copy, current, opens, err) < 0)
        return -1;
    for (int pass = 0; pass < 2; pass++) {
        for (int slot = 0; slot < (int)GEOMETRY_SLOTS; slot++) {
            if (pass == 0 ? copy->facts.slot[slot] : opens[slot])
                continue;
            *ret = slot;
            return copy->facts.slot[slot] ? luks_kill_slot(copy, slot, err) : 0;
        }
    }
    return error_set(err, ERR_PRECONDITION,
                     "all %u keyslots of the volume open by its present key: none can be given up",
                     GEOMETRY_SLOTS);
}

int rekey_add(const struct luks *from, int device_fd, const char *uuid,
              const struct secret *current, const struct secret *fresh, struct luks *ret,
              struct error *err)
{
    AUTO_LUKS struct luks copy = LUKS_INIT;
    bool opens[GEOMETRY_SLOTS];
    int slot = 0;

    if (luks_copy(from, device_fd, uuid, &copy, err) < 0 ||
        luks_opens(&copy, fresh, opens, err) < 0)
        return -1;
    if (!any(opens) && (choose_slot(&copy, current, &slot, err) < 0 ||
                        luks_add_slot(&copy, slot, current, fresh, err) < 0))
        return -1;
    if (luks_finish(&copy, device_fd, uuid, err) < 0 || luks_verify(&copy, current, err) < 0 ||
        luks_verify(&copy, fresh, err) < 0)
        return -1;
    return hand_over(&copy, ret);
}

int rekey_prune(struct luks *from, int device_fd, const char *uuid, const struct secret *current,
                struct luks *ret, struct error *err)
{
    AUTO_LUKS struct luks copy = LUKS_INIT;
    bool opens[GEOMETRY_SLOTS];

    if (luks_verify(from, current, err) < 0 || luks_copy(from, device_fd, uuid, &copy, err) < 0 ||
        luks_opens(&copy, current, opens, err) < 0)
        return -1;
    for (int slot = 0; slot < (int)GEOMETRY_SLOTS; slot++) {
        if (copy.facts.slot[slot] && !opens[slot] && luks_kill_slot(&copy, slot, err) < 0)
            return -1;
    }
    if (luks_finish(&copy, device_fd, uuid, err) < 0 || luks_verify(&copy, current, err) < 0)
        return -1;
    return hand_over(&copy, ret);
}

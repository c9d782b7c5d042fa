/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/keylock.h"

#include <pthread.h>

/* A list: it holds as many entries as calls are under way (hundreds at most). */
struct keylock {
    pthread_mutex_t mutex;
    struct keylock_hold *held;
};

struct keylock_hold {
    struct keylock *set;
    struct keylock_hold *next;
    char key[];
};

struct keylock *keylock_new(void)
{
    struct keylock *set = calloc(1, sizeof(*set));

    if (set == NULL)
        return NULL;
    if (pthread_mutex_init(&set->mutex, NULL) != 0) {
        free(set);
        return NULL;
    }
    return set;
}

void keylock_free(struct keylock *set)
{
    if (set == NULL)
        return;
    (void)pthread_mutex_destroy(&set->mutex);
    free(set);
}

/* Under the mutex. */
static bool is_held(const struct keylock *set, const char *key)
{
    for (const struct keylock_hold *h = set->held; h != NULL; h = h->next)
        if (strcmp(h->key, key) == 0)
            return true;
    return false;
}

static bool insert(struct keylock *set, struct keylock_hold *hold)
{
    bool busy;

    (void)pthread_mutex_lock(&set->mutex);
    busy = is_held(set, hold->key);
    if (!busy) {
        hold->next = set->held;
        set->held = hold;
    }
    (void)pthread_mutex_unlock(&set->mutex);
    return !busy;
}

int keylock_try(struct keylock *set, const char *key, struct keylock_hold **ret, struct error *err)
{
    size_t len = strlen(key);
    AUTO_FREE struct keylock_hold *hold = malloc(sizeof(*hold) + len + 1);

    if (hold == NULL)
        return error_memory(err);
    hold->set = set;
    memcpy(hold->key, key, len + 1);
    if (!insert(set, hold))
        return error_set(err, ERR_ABORTED, "an operation on volume '%s' is under way", key);
    *ret = TAKE_PTR(hold);
    return 0;
}

void keylock_hold_free(struct keylock_hold *hold)
{
    struct keylock_hold **p;

    if (hold == NULL)
        return;
    (void)pthread_mutex_lock(&hold->set->mutex);
    for (p = &hold->set->held; *p != NULL && *p != hold; p = &(*p)->next)
        continue;
    if (*p != NULL)
        *p = hold->next;
    (void)pthread_mutex_unlock(&hold->set->mutex);
    free(hold);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/kms.h"

#include "common/deadline.h"
#include "keyd/frame.h"

#define STOP_MS 5000u

static const struct kms_driver *const drivers[] = { &kms_file, &kms_vault_transit, &kms_vault_kv };

static const struct kms_driver *driver_of(const char *uri)
{
    for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
        if (strncmp(uri, drivers[i]->prefix, strlen(drivers[i]->prefix)) == 0)
            return drivers[i];
    }
    return NULL;
}

static int kms_open(const struct kms_config *config, const struct kms_env *env, struct kms *ret,
                    struct error *err)
{
    const struct kms_driver *driver = driver_of(config->uri);
    if (driver == NULL)
        return error_set(err, ERR_INVALID, "key service '%s': no driver for uri '%s'", config->name,
                         config->uri);
    if (driver->insecure && !env->allow_insecure)
        return error_set(err, ERR_PRECONDITION,
                         "key service '%s' is insecure (%s): it needs --insecure-file-kms",
                         config->name, driver->prefix);
    struct kms kms = { .driver = driver };
    if (str_copy(kms.name, sizeof(kms.name), config->name) < 0)
        return error_set(err, ERR_INVALID, "key service '%s': the name is too long", config->name);
    if (driver->open(config, env, &kms.state, err) < 0)
        return error_prefix(err, "key service '%s'", config->name);
    *ret = kms;
    return 0;
}

int kms_set_open(const struct config *config, const struct kms_env *env, struct kms_set **ret,
                 struct error *err)
{
    AUTO_KMS_SET struct kms_set *set = calloc(1, sizeof(*set));
    if (set == NULL)
        return error_memory(err);
    set->items = calloc(config->n_kms + 1, sizeof(*set->items));
    if (set->items == NULL)
        return error_memory(err);
    struct kms_env with_opened = *env;
    with_opened.opened = set;
    for (size_t i = 0; i < config->n_kms; i++) {
        if (kms_open(&config->kms[i], &with_opened, &set->items[i], err) < 0)
            return -1;
        set->n++;
    }
    *ret = TAKE_PTR(set);
    return 0;
}

void kms_set_free(struct kms_set *set)
{
    if (set == NULL)
        return;
    for (size_t i = 0; i < set->n; i++)
        set->items[i].driver->close(set->items[i].state);
    free(set->items);
    free(set);
}

bool kms_set_insecure(const struct kms_set *set)
{
    for (size_t i = 0; i < set->n; i++) {
        if (set->items[i].driver->insecure)
            return true;
    }
    return false;
}

bool kms_set_network(const struct kms_set *set)
{
    for (size_t i = 0; i < set->n; i++) {
        if (set->items[i].driver->network)
            return true;
    }
    return false;
}

int kms_set_find(const struct kms_set *set, const char *name, const struct kms **ret,
                 struct error *err)
{
    for (size_t i = 0; i < set->n; i++) {
        if (strcmp(set->items[i].name, name) != 0)
            continue;
        *ret = &set->items[i];
        return 0;
    }
    return error_set(err, ERR_PRECONDITION, "coffer-keyd has no key service '%s'", name);
}

/* ---- jobs ---- */

void kms_mint(const struct kms *kms, struct kms_job *job)
{
    job->kms = kms;
    kms->driver->mint(kms->state, job);
}

void kms_unwrap(const struct kms *kms, struct kms_job *job)
{
    struct error err = ERROR_INIT;
    job->kms = kms;
    if (strcmp(job->key->kind, kms->driver->kind) == 0) {
        kms->driver->unwrap(kms->state, job);
        return;
    }
    (void)error_set(&err, ERR_PRECONDITION, "key service '%s' opens keys of kind '%s', not '%s'",
                    kms->name, kms->driver->kind, job->key->kind);
    kms_end(job, &err);
}

void kms_destroy(const struct kms *kms, struct kms_job *job)
{
    job->kms = kms;
    if (kms->driver->destroy != NULL)
        kms->driver->destroy(kms->state, job);
    else
        kms_end(job, NULL);
}

void kms_no_server_key(struct kms_job *job)
{
    struct error err = ERROR_INIT;
    (void)error_set(&err, ERR_PRECONDITION,
                    "key service '%s' has no server key that devices could make a session for",
                    job->kms->name);
    kms_end(job, &err);
}

void kms_unwrap_client(const struct kms *kms, struct kms_job *job)
{
    job->kms = kms;
    if (kms->driver->unwrap_client != NULL)
        kms->driver->unwrap_client(kms->state, job);
    else
        kms_no_server_key(job);
}

void kms_server_key(const struct kms *kms, struct kms_job *job)
{
    job->kms = kms;
    if (kms->driver->server_key != NULL)
        kms->driver->server_key(kms->state, job);
    else
        kms_no_server_key(job);
}

void kms_end(struct kms_job *job, const struct error *err)
{
    if (err != NULL)
        (void)error_pass(&job->err, err);
    else if (job->plain != NULL && job->session == NULL && secret_len(job->plain) != KEY_BYTES)
        (void)error_set(&job->err, ERR_PRECONDITION, "key service '%s' gave a key of another size",
                        job->kms->name);
    if (job->err.code != ERR_OK) {
        secret_free(job->plain);
        job->plain = NULL;
    }
    job->done(job);
}

/* ---- the end ---- */

static void on_stopped(void *ctx)
{
    size_t *left = ctx;
    (*left)--;
}

void kms_set_stop(const struct kms_set *set, struct event_loop *loop)
{
    uint64_t deadline = deadline_in(STOP_MS);
    struct error err = ERROR_INIT;
    size_t left = 0;
    for (size_t i = 0; i < set->n; i++)
        left += set->items[i].driver->stop != NULL;
    for (size_t i = 0; i < set->n; i++) {
        if (set->items[i].driver->stop != NULL)
            set->items[i].driver->stop(set->items[i].state, on_stopped, &left);
    }
    while (left > 0 && deadline_left(deadline) > 0) {
        if (event_loop_turn(loop, deadline, &err) < 0)
            return;
    }
}

int kms_refuse_key(struct error *err)
{
    return error_set(err, ERR_PRECONDITION,
                     "the wrapped key was not made for this volume here, or it was changed");
}

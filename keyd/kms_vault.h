/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd/kms_vault.h: what the two Vault drivers share: the client, the self-test at the first
 * contact, and a job's way through it. Before the self-test has passed nothing is minted or
 * unwrapped: it asks the server what this identity may do and refuses to go on when that is less
 * than it needs, or more than it must have. It is repeated by the next request when it failed, and
 * by the first one that finds another token, whose login may have come with other policies.
 */
#ifndef COFFER_KEYD_KMS_VAULT_H
#define COFFER_KEYD_KMS_VAULT_H

#include "keyd/kms.h"
#include "vault/client.h"

#define VAULT_BOUND_MAX 1024u

enum capability_of {
    CAP_MINT,
    CAP_UNWRAP,
    CAP_DESTROY,
    CAP_UNWRAP_CLIENT,
    CAP_SERVER_KEY,
    CAP_NEVER
};

/* May a login do what belongs to an op? */
enum may { MAY_NOT, MUST, MAY };

struct capability_row {
    const char *path; /* below the mount; %s: the key's name, or the secret's path */
    const char *capability;
    enum capability_of of;
    bool server; /* %s is the server key's name; where there is none, nothing is asked */
};

/* Whose request was seen to be refused without the right context. That a policy lets nobody mint
 * without one says nothing of the key, so it doesn't count for unwrapping. */
enum bound_by { BOUND_MINT, BOUND_UNWRAP };

struct tenant_set {
    char (*names)[TENANT_MAX + 1]; /* VAULT_BOUND_MAX */
    size_t n;
};

struct kms_vault { /* a driver's state */
    struct vault *vault;
    bool borrowed; /* of an earlier key service with the same identity: one login, one token */
    struct event_loop *loop;
    struct kms_vault_config config;
    enum may may[CAP_NEVER + 1]; /* by what this keyd answers */
    const struct capability_row *rows;
    size_t n_rows;
    bool passed, testing;
    uint64_t tested_with; /* the token (vault/client.h) that the last self-test went out with */
    struct error refusal; /* why the last self-test failed; ERR_OK: none did */
    char tested[256];     /* the name that the self-test under way asks about */
    struct vault_job *waiting;  /* for the self-test, each until its own deadline */
    struct tenant_set bound[2]; /* by enum bound_by */
};

struct vault_job { /* one job at work */
    struct kms_vault *s;
    struct kms_job *job;
    struct vault_job *next;
    struct event_timer limit; /* of the wait for the self-test */
    bool binds;               /* a wrong context was refused for being wrong */
    uint64_t probed; /* the token (vault/client.h) that minting without a context was refused to */
    void (*go)(struct vault_job *j); /* the driver's, when the self-test has passed */
    struct vault_guest *guest; /* of the caller's own token; NULL: this keyd's identity asks */
    char foreign[256];         /* beside it: the name of another tenant's key */
    char name[256];            /* the key's name, or the secret's path */
    struct secret *fresh;      /* KV: the key that is being stored */
    struct error refusal;      /* KV: of the request to store it */
    unsigned repeated;
};

int kms_vault_open(const struct kms_config *config, const struct kms_env *env,
                   const struct capability_row *rows, size_t n_rows, void **ret,
                   struct error *err) MUST_CHECK;
void kms_vault_close(void *state);
void kms_vault_stop(void *state, void (*done)(void *ctx), void *ctx);
json_t *kms_vault_status(const void *state);
bool kms_vault_stats(const void *state, struct kms_stats *ret);

/* `name` is copied. Ends in go, or in kms_end. */
void vault_job_start(struct kms_vault *s, struct kms_job *job, const char *name,
                     void (*go)(struct vault_job *j));
/* The same as the pod whose token the job carries, with a login for this job alone. Its self-test
 * comes with it, each time: it must be allowed to unwrap with `name`, and with `foreign`, the key
 * of a tenant that isn't the job's, it must not. kms_vault_pod.c */
void vault_job_start_pod(struct kms_vault *s, struct kms_job *job, const char *name,
                         const char *foreign, void (*go)(struct vault_job *j));
/* What a job does after its self-test: the session is decrypted, the server key is read. There is
 * one. kms_vault_session.c */
void vault_session_open(struct vault_job *j);
void vault_server_key_read(struct vault_job *j);
/* Frees the vault_job and ends the job; err NULL: it is answered. */
void vault_job_end(struct vault_job *j, const struct error *err);
/* One request; `body` is taken (NULL with `has_body`: out of memory). path: "data/%s", below the
 * mount. */
void vault_job_ask(struct vault_job *j, const char *method, const char *path, bool has_body,
                   json_t *body, vault_done done);
/* The same, where a refusal is the good answer. */
void vault_job_probe(struct vault_job *j, const char *path, json_t *body, vault_done done);

/* ---- what a login may do, for kms_vault_pod.c too ---- */

/* The body of a question to sys/capabilities-self about all rows; more may be added to it until
 * capability_question_whole is asked. */
json_t *capability_question(const struct kms_vault *s, const char *name);
/* False, and *ret is the answer instead: memory lacked for some of it. */
bool capability_question_whole(const json_t *question, struct vault_answer *ret);
int capability_judge(const struct kms_vault *s, const enum may may[CAP_NEVER + 1], const char *name,
                     const json_t *data, struct error *err) MUST_CHECK;
/* "data/%s" with the name in it, below the mount. False: it is too long. */
bool kms_vault_path(const struct kms_vault *s, const char *path, const char *name,
                    char ret[VAULT_PATH_MAX + 1]) MUST_CHECK;
/* The answer's "data" lists the capability for that path. ERR_UNAVAILABLE: it doesn't speak of it.
 */
int capability_held(const json_t *data, const char *path, const char *capability, bool *ret,
                    struct error *err) MUST_CHECK;

bool vault_bound(const struct kms_vault *s, enum bound_by by, const char *tenant);
/* Forgets all of them when there are too many: each is then looked at once more. */
void vault_set_bound(struct kms_vault *s, enum bound_by by, const char *tenant);

#endif

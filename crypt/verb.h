/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verb.h: coffer-crypt's verbs. A new verb is one row in verb.c and one file verb_<name>.c. One
 * process runs one verb; descriptors have fixed numbers (crypt/client.h).
 */
#ifndef COFFER_CRYPT_VERB_H
#define COFFER_CRYPT_VERB_H

#include "common/base.h"
#include "common/error.h"
#include "common/json.h"
#include "crypt/client.h"
#include "crypt/descriptors.h"
#include "crypt/luks.h"
#include "volume/record.h"

/* What a verb takes: request fields and descriptors. A field that isn't taken is refused. */
enum verb_takes {
    TAKES_NAME = 1 << 0,
    TAKES_DM_UUID = 1 << 1, /* optional */
    TAKES_RECORD = 1 << 2,  /* and its id must give the name */
    TAKES_DEVICE = 1 << 3,  /* a number to compare with; 0:0 = none */
    TAKES_DEVICE_FD =
        1 << 4, /* FD_DEVICE is that block device, of a size that can be one of ours */
    TAKES_READ_ONLY = 1 << 5,
    TAKES_STORED_STATE = 1 << 6,
    TAKES_KEY = 1 << 7,          /* FD_KEY */
    TAKES_OUT = 1 << 8,          /* FD_OUT */
    TAKES_NEW_KEY = 1 << 9,      /* FD_NEW_KEY */
    TAKES_RECIPIENTS = 1 << 11,  /* the record's list as it will be */
    TAKES_PRIVATE_KEY = 1 << 12, /* FD_PRIVATE_KEY: a file or a pipe */
    WRITES_HEADER = 1 << 10,     /* takes nothing: for the sandbox */
};

struct request {
    char name[DM_NAME_LEN + 1];
    char dm_uuid[DM_UUID_MAX + 1]; /* "" when absent */
    struct record record;
    dev_t device;
    uint64_t device_size; /* bytes; by TAKES_DEVICE_FD */
    bool read_only;
    enum record_state stored_state;
    char recipients[RECIPIENTS_TEXT_MAX + 1];
    uint64_t deadline; /* clock_ms: for waiting (key, busy mapping); work isn't cut short */
};

struct verb {
    const char *name;
    unsigned takes;
    /* Adds its answer's fields to `reply`. */
    int (*run)(struct request *q, json_t *reply, struct error *err);
};

const struct verb *verb_find(const char *name); /* NULL: unknown */
const char *verb_names(void);                   /* "list, format, …" for the usage line */

int verb_list(struct request *q, json_t *reply, struct error *err) MUST_CHECK;
int verb_blank(struct request *q, json_t *reply, struct error *err) MUST_CHECK;
int verb_format(struct request *q, json_t *reply, struct error *err) MUST_CHECK;
int verb_open(struct request *q, json_t *reply, struct error *err) MUST_CHECK;
int verb_check(struct request *q, json_t *reply, struct error *err) MUST_CHECK;
int verb_resize(struct request *q, json_t *reply, struct error *err) MUST_CHECK;
int verb_close(struct request *q, json_t *reply, struct error *err) MUST_CHECK;
int verb_rekey(struct request *q, json_t *reply, struct error *err) MUST_CHECK;
int verb_prune(struct request *q, json_t *reply, struct error *err) MUST_CHECK;
int verb_recipients(struct request *q, json_t *reply, struct error *err) MUST_CHECK;
int verb_passphrase(struct request *q, json_t *reply, struct error *err) MUST_CHECK;
int verb_rescue(struct request *q, json_t *reply, struct error *err) MUST_CHECK;

/* request.c */
int request_decode(const struct verb *verb, const char *text, size_t len, struct request *ret,
                   struct error *err) MUST_CHECK;
/* Puts the mapping into the reply. */
int reply_mapping(json_t *reply, const struct mapping *m, struct error *err) MUST_CHECK;

/* The record's MAC, as q->record is now, under a key; goes into the reply too. */
int reply_mac(const struct secret *sk, struct request *q, json_t *reply,
              struct error *err) MUST_CHECK;

/* session.c: a volume whose header, digest and record were verified with its key. */
struct session {
    struct luks luks;
    struct secret *sk, *passphrase;
};
#define SESSION_INIT                                      \
    {                                                     \
        .luks = LUKS_INIT, .sk = NULL, .passphrase = NULL \
    }
void session_release(struct session *s);
#define AUTO_SESSION __attribute__((cleanup(session_release)))

/* Where the storage key comes from: fills in s->sk and s->passphrase. */
typedef int (*session_source)(const struct request *q, struct session *s, struct error *err);
/* Steps 1 and 2 of an open (header, allowlist, digest), then the key and the record's MAC: all
 * before any device-mapper call. */
int session_begin_by(const struct request *q, session_source source, struct session *ret,
                     struct error *err) MUST_CHECK;
/* The same with the key frame of FD_KEY. */
int session_begin(const struct request *q, struct session *ret, struct error *err) MUST_CHECK;
/* Reads the key frame from FD_KEY or FD_NEW_KEY and derives the passphrase. */
int session_read_key(const struct request *q, int fd, struct session *s,
                     struct error *err) MUST_CHECK;
/* Takes *sk and derives the passphrase. */
int session_take_key(const struct request *q, struct secret **sk, struct session *s,
                     struct error *err) MUST_CHECK;
/* Writes the passphrase to FD_OUT, if it opens a keyslot. */
int session_give_passphrase(struct session *s, struct error *err) MUST_CHECK;
/* Steps 3 and 4: activates (or finds the right mapping), reads the live table back. */
int session_activate(const struct request *q, struct session *s, struct mapping *ret,
                     struct error *err) MUST_CHECK;
/* The live mapping is the one that record and device ask for. ERR_UNAVAILABLE for a zombie, else
 * ERR_PRECONDITION with what differs. */
int mapping_must_fit(const struct mapping *m, const struct request *q,
                     struct error *err) MUST_CHECK;

#endif

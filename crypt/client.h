/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crypt/client.h: runs the one-shot helper coffer-crypt, one verb a process. The caller passes
 * descriptors, never keys. Wire: argv[1] = verb, request JSON on stdin, reply JSON on stdout, what
 * no reply can carry on stderr (logged here), fd 3 = pipe with the key frame (keyed verbs), fd 4 =
 * the backing block device, fd 5 = the volume's lock (only inherited: an orphan keeps the volume
 * locked), fd 6 = where `passphrase` and `rescue` write and `rekey` puts the header's backup, fd 7
 * = pipe with the new key's frame, fd 8 = file or pipe with a recipient's private key. Thread-safe;
 * at most min(16, 2 * CPUs) helpers run at once, others wait within their deadline.
 */
#ifndef COFFER_CRYPT_CLIENT_H
#define COFFER_CRYPT_CLIENT_H

#include "common/base.h"
#include "common/error.h"
#include "volume/id.h"
#include "volume/record.h"

#include <sys/types.h>

enum mapping_state {
    MAPPING_OK,     /* one live crypt target over a present device */
    MAPPING_ZOMBIE, /* backing device gone, no live table, or deferred remove */
    MAPPING_WRONG,  /* live, but the table is not what Coffer makes */
};

struct mapping {
    char name[DM_NAME_LEN + 1];
    char dm_uuid[DM_UUID_MAX + 1];
    dev_t dev;     /* the mapping */
    dev_t backing; /* the device below; 0 unknown */
    uint64_t size; /* bytes */
    int open_count;
    bool read_only;
    bool discards; /* it passes discards on to the device below */
    enum mapping_state state;
    char why[128]; /* for states other than OK */
};

struct mapping_list {
    struct mapping *items;
    size_t n;
};

/* libcryptsetup exports these two names as well. Symbols of their own keep a program that links
 * both from calling the wrong one, and keep the link-time proof (nm of the daemons against the
 * library's exports) exact. */
#define crypt_format coffer_crypt_format
#define crypt_resize coffer_crypt_resize

struct crypt_client {
    const char *helper; /* absolute path of coffer-crypt */
};

struct crypt_volume { /* what a verb works on; all borrowed */
    const char *dm_name;
    const struct record *record;
    int device_fd; /* backing device, or -1 where the verb doesn't need it */
    dev_t device;
    int lock_fd;
    bool read_only; /* open: make the mapping read-only */
};

/* All mappings named coffer-*: by ioctl, so devices without a table show too. */
int crypt_list(const struct crypt_client *c, uint64_t deadline, struct mapping_list *ret,
               struct error *err) MUST_CHECK;
void mapping_list_release(struct mapping_list *l);
#define AUTO_MAPPING_LIST __attribute__((cleanup(mapping_list_release)))
/* NULL: none by that dm name. */
const struct mapping *mapping_find(const struct mapping_list *l, const char *dm_name);

/* Keyless: the header area of the device reads as zeros, whole. ERR_DATA_LOSS naming what is there
 * otherwise; a read error is an error, never "blank". The node asks before it writes `formatting`
 * over `new`. */
int crypt_blank(const struct crypt_client *c, const struct crypt_volume *v, uint64_t deadline,
                struct error *err) MUST_CHECK;
/* Formats LUKS2 on the device, then opens it. v->record: the record as it will read at `ready`,
 * digest and mac still empty; they come back. Refuses (ERR_DATA_LOSS) when state in the *stored*
 * record is `new` and the header area isn't zero, or `formatting` and a header of another uuid is
 * there: stored_state says so. */
int crypt_format(const struct crypt_client *c, const struct crypt_volume *v,
                 enum record_state stored_state, int key_fd, uint64_t deadline, char ret_digest[65],
                 char ret_mac[65], struct mapping *ret, struct error *err) MUST_CHECK;
/* Validates a sealed copy of the header, verifies record MAC and digest, activates, reads the live
 * table back. An existing right mapping is an answer, not an error; zombies of this name are reaped
 * first. */
int crypt_open(const struct crypt_client *c, const struct crypt_volume *v, int key_fd,
               uint64_t deadline, struct mapping *ret, struct error *err) MUST_CHECK;
/* Keyless: the live mapping is what it must be (same check as open's last step; v->device 0 and
 * v->read_only aren't compared, see ret->backing and ret->read_only). ERR_NOT_FOUND: no mapping;
 * ERR_UNAVAILABLE: a zombie, which crypt_open reaps; ERR_PRECONDITION: not our table. */
int crypt_check(const struct crypt_client *c, const struct crypt_volume *v, uint64_t deadline,
                struct mapping *ret, struct error *err) MUST_CHECK;
/* Grows the live mapping to the device's size. */
int crypt_resize(const struct crypt_client *c, const struct crypt_volume *v, int key_fd,
                 uint64_t deadline, struct mapping *ret, struct error *err) MUST_CHECK;
/* By dm name and (when not NULL) uuid, never reading the disk. No mapping: 0. Open: ERR_ABORTED
 * after bounded retries. Zombies are removed; one that is still held is marked to go with its last
 * opener, and that is ERR_ABORTED too: 0 always means that the mapping is gone. */
int crypt_close(const struct crypt_client *c, const char *dm_name, const char *dm_uuid, int lock_fd,
                uint64_t deadline, struct error *err) MUST_CHECK;
/* Break-glass: the LUKS passphrase (64 hex digits and a newline) to out_fd, after the same checks
 * as open. */
int crypt_passphrase(const struct crypt_client *c, const struct crypt_volume *v, int key_fd,
                     int out_fd, uint64_t deadline, struct error *err) MUST_CHECK;

/* The same for who holds a recipient's private key (recipient/unwrap.h): private_key_fd, a file or
 * a pipe, read to its end. No lock, no key service. ERR_PRECONDITION: it isn't among the record's
 * recipients; ERR_INVALID: it isn't a private key, or doesn't open what is there for it. */
int crypt_rescue(const struct crypt_client *c, const struct crypt_volume *v, int private_key_fd,
                 int out_fd, uint64_t deadline, struct error *err) MUST_CHECK;

/* The MAC of v->record with another list (recipients.h's text), after the same checks
 * as open: so with its own list it proves that this is the one that was written with the key. */
int crypt_recipients(const struct crypt_client *c, const struct crypt_volume *v, int key_fd,
                     const char *recipients, uint64_t deadline, char ret_mac[65],
                     struct error *err) MUST_CHECK;

/* Rotation of the storage key, first half: the header gets a keyslot for the key of new_key_fd as
 * well; the one of key_fd, which v->record names, opens it as before. backup_fd: a file that first
 * gets a whole copy of the header, flushed. *ret_mac: of v->record with stale_slots and these
 * recipients, under the new key. The live mapping isn't touched. The same key twice:
 * ERR_PRECONDITION. */
int crypt_rekey(const struct crypt_client *c, const struct crypt_volume *v, int key_fd,
                int new_key_fd, int backup_fd, const char *recipients, uint64_t deadline,
                char ret_mac[65], struct error *err) MUST_CHECK;
/* Second half: keyslots that this key doesn't open are gone, their areas overwritten. *ret_mac: of
 * v->record without stale_slots. */
int crypt_prune(const struct crypt_client *c, const struct crypt_volume *v, int key_fd,
                uint64_t deadline, char ret_mac[65], struct error *err) MUST_CHECK;

#endif

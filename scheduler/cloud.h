/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cloud.h: a cloud is a user's encrypted volume and the VM that runs on it. Here is what a driver
 * finds out about one: facts, not what the scheduler wants (operation.h has that). Plain value
 * types without a heap, but for the list of devices, which cloud_clear frees.
 *
 * A device is known by `name`, the SHA-256 of the modulus as Arcs made it (the 64 hex digits in
 * every URL; recipient/publickey.h), and by `fingerprint`, the SHA-256 of the whole public key, to
 * which its sessions are bound. The cloud's `id` is the first 32 digits of the name of the device
 * that made it; it names resources and stays when that device goes. Nothing here is a secret.
 */
#ifndef COFFER_SCHEDULER_CLOUD_H
#define COFFER_SCHEDULER_CLOUD_H

#include "common/base.h"
#include "volume/id.h"

#define DEVICE_NAME_LEN  64
#define CLOUD_HANDLE_MAX 127 /* of a volume: Coffer's id, or a PersistentVolume's handle */
#define NODE_NAME_MAX    253 /* RFC 1123 */
#define CLOUD_REASON_MAX 255

struct device {
    char name[DEVICE_NAME_LEN + 1];
    char fingerprint[DEVICE_NAME_LEN + 1];
    char algorithm[40]; /* recipient/wrap.h */
    char label[64];
    char public_key[861]; /* base64 of the SubjectPublicKeyInfo, DER */
    char wrapped[689];    /* base64: the storage key for that public key */
};

enum vm_state {
    VM_NONE,
    VM_STARTING, /* its process or pod is there */
    VM_READY,    /* it answers */
    VM_FAILED,   /* it ended by itself; `reason` says how */
};

struct cloud {
    char id[CLOUD_ID_LEN + 1];
    char volume[CLOUD_HANDLE_MAX + 1]; /* "": the volume isn't there yet */
    char uuid[37];
    char commitment[65]; /* to the storage key (docs/client-keys.md); "": none is known yet */
    char node[NODE_NAME_MAX + 1]; /* where the volume is; "": it can be opened anywhere */
    bool unread;                  /* its facts can't be read (driver.h's each) */
    bool ever_opened;             /* it was formatted: there may be data */
    bool open;                    /* its mapping is there, or is being made or taken away */
    bool unsettled;               /* something was begun that its driver must look after */
    enum vm_state vm;
    char reason[CLOUD_REASON_MAX + 1];
    struct device *devices; /* owned */
    size_t n_devices;
};

/* Frees the list and clears the rest; safe on zeroes. */
void cloud_clear(struct cloud *c);
#define AUTO_CLOUD __attribute__((cleanup(cloud_clear)))

/* 64 lower-case hex digits; 32 of them. */
bool device_name_valid(const char *text);
bool cloud_id_valid(const char *text);
/* The device of that name, borrowed; NULL: none. */
const struct device *cloud_device(const struct cloud *c, const char *name);

#endif

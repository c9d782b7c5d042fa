/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/vm_api.h: coffer-scheduler asked one question after the other, as a user's device does:
 * over HTTPS, with the device's proof where one is needed (device/proof.h), or over its admin
 * socket as root. What may be repeated is, until the run's deadline: an answer that says "not now",
 * and a connection that breaks after there was one. All requests of this API may be repeated. One
 * thread.
 */
#ifndef COFFER_COFFERCTL_VM_API_H
#define COFFER_COFFERCTL_VM_API_H

#include "common/base.h"
#include "cofferctl/cli.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "common/json.h"
#include "device/key.h"

struct vm_api; /* opaque */

struct vm_options {
    const char *url, *ca, *key, *server_key;
    uint64_t timeout_s, session_s;
    bool yes;
};
extern struct vm_options vm_options; /* one process runs one verb */

/* clang-format off */
#define VM_FLAG_KEY \
    { "key", "COFFER_KEY", FLAG_STRING, &vm_options.key, "", \
      "file with the device's private key", NULL }
#define VM_FLAGS \
    VM_FLAG_KEY, \
    { "url", "COFFER_URL", FLAG_STRING, &vm_options.url, "", \
      "coffer-scheduler, https://HOST:PORT", NULL }, \
    { "ca", "COFFER_CA", FLAG_STRING, &vm_options.ca, "/etc/ssl/certs/ca-certificates.crt", \
      "PEM file of the certificates to trust", NULL }, \
    { "timeout", NULL, FLAG_UINT, &vm_options.timeout_s, "300", "seconds to wait", NULL }
#define VM_SESSION_FLAGS \
    { "server-key", "COFFER_SERVER_KEY", FLAG_STRING, &vm_options.server_key, "", \
      "fingerprint that the server's public key must have, 64 hex digits", NULL }, \
    { "session-seconds", NULL, FLAG_UINT, &vm_options.session_s, "300", \
      "how long what is lent to the server opens the volume", NULL }
#define VM_FLAG_YES \
    { "yes", NULL, FLAG_BOOL, &vm_options.yes, "false", "don't ask on the terminal", NULL }
/* clang-format on */

/* A verb's check: what the flags above must say. */
int vm_check(const struct cli *cli, struct error *err) MUST_CHECK;
int vm_check_key(const struct cli *cli, struct error *err) MUST_CHECK;

/* First thing in a verb that touches a key: no core file, libraries wipe their memory. */
int vm_prepare(struct error *err) MUST_CHECK;

/* As the flags say. */
int vm_api_open(const struct cli *cli, struct vm_api **ret, struct error *err) MUST_CHECK;
int vm_api_open_admin(const struct cli *cli, const char *socket, struct vm_api **ret,
                      struct error *err) MUST_CHECK;
void vm_api_close(struct vm_api *a);
DEFINE_AUTO(vm_api, vm_api_close)
#define AUTO_VM_API __attribute__((cleanup(cleanup_vm_api)))

const struct device_key *vm_api_key(const struct vm_api *a); /* borrowed */
const struct cli *vm_api_cli(const struct vm_api *a);
/* Waits, within the deadline: ERR_DEADLINE. */
int vm_api_pause(struct vm_api *a, uint64_t ms, struct error *err) MUST_CHECK;

/* GET. *ret_status: 200, or 404 with an answer that is one; else an error with the server's own
 * sentence and code. *ret: the caller's. */
int vm_api_get(struct vm_api *a, const char *path, long *ret_status, json_t **ret,
               struct error *err) MUST_CHECK;
/* GET of a text. */
int vm_api_text(struct vm_api *a, const char *path, char **ret, struct error *err) MUST_CHECK;
/* With a proof, about the device's own cloud: /v1/clouds/NAME and `path` behind it ("/lock"). body
 * NULL: none. ret may be NULL. */
int vm_api_call(struct vm_api *a, const char *method, const char *path, const json_t *body,
                json_t **ret, struct error *err) MUST_CHECK;

#endif

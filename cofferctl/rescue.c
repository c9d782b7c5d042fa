/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl volume rescue: a volume's LUKS passphrase from what is left of it: its image, its
 * record and either a recipient's private key or a Vault token that may unwrap. No daemon, no pool.
 * This process holds descriptors alone: coffer-crypt reads the private key, or the key frame that a
 * coffer-keyd of our own wrote, and writes the passphrase to our standard output.
 */
#include "common/base.h"
#include "cofferctl/verbs.h"

#include "backends/backend.h"
#include "backends/file.h"
#include "cofferctl/own_keyd.h"
#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/fs.h"
#include "common/log.h"
#include "common/strbuf.h"
#include "crypt/client.h"
#include "keyd/client.h"
#include "volume/record.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#define CRYPT_MS  600000u
#define UNWRAP_MS 60000u

static struct {
    const char *record, *private_key, *crypt_helper, *keyd, *reason;
    bool vault;
} options;

static const struct flag flags[] = {
    { "record", NULL, FLAG_STRING, &options.record, "",
      "the volume's record: record.json beside its image, or a backup; required", NULL },
    { "private-key", NULL, FLAG_STRING, &options.private_key, "",
      "a recipient's private key, PEM without a passphrase: a file or a pipe", NULL },
    { "vault", NULL, FLAG_BOOL, &options.vault, "false",
      "unwrap the key by the Vault login of the file --config instead", NULL },
    { "reason", NULL, FLAG_STRING, &options.reason, "", "why, for the audit line", NULL },
    { "crypt-helper", NULL, FLAG_STRING, &options.crypt_helper, "/usr/libexec/coffer/coffer-crypt",
      "absolute path of coffer-crypt", NULL },
    { "keyd", NULL, FLAG_STRING, &options.keyd, "/usr/sbin/coffer-keyd",
      "absolute path of coffer-keyd, for --vault", NULL },
};

struct rescue { /* one run */
    const struct cli *cli;
    struct record record;
    char dm_name[DM_NAME_LEN + 1];
    struct block_device device;
    struct crypt_client client;
};

static int check(const struct cli *cli UNUSED, struct error *err)
{
    if (options.record[0] == '\0')
        return error_set(err, ERR_INVALID, "--record is needed: the volume's record");
    if (options.vault == (options.private_key[0] != '\0'))
        return error_set(err, ERR_INVALID, "one of --private-key and --vault is needed");
    if (options.crypt_helper[0] != '/' || options.keyd[0] != '/')
        return error_set(err, ERR_INVALID, "--crypt-helper and --keyd must be absolute paths");
    return 0;
}

/* ---- what is given ---- */

/* A file would keep the passphrase. */
static int check_output(struct error *err)
{
    struct stat st;

    if (fstat(STDOUT_FILENO, &st) == 0 &&
        (S_ISFIFO(st.st_mode) || (S_ISCHR(st.st_mode) && isatty(STDOUT_FILENO) == 1)))
        return 0;
    return error_set(err, ERR_INVALID,
                     "the standard output must be a pipe or a terminal: the passphrase is written "
                     "there");
}

static int read_record(struct rescue *r, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(RECORD_MAX);
    struct volume_id id;

    if (fs_read_at(AT_FDCWD, options.record, RECORD_MAX, &text, err) < 0)
        return -1;
    if (record_decode(strbuf_text(&text), text.len, &r->record, err) < 0 ||
        volume_id_parse(r->record.id, &id, err) < 0)
        return error_prefix(err, "'%s' is no record of a volume", options.record);
    volume_id_dm_name(&id, r->dm_name);
    if (r->record.state == RECORD_READY)
        return 0;
    return error_set(err, ERR_PRECONDITION,
                     "volume '%s' is in state '%s' and has no passphrase yet", r->record.id,
                     record_state_name(r->record.state));
}

/* An image, or a device that shows one; neither is written to. */
static int open_image(struct rescue *r, struct error *err)
{
    const char *path = r->cli->operand;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return error_errno(err, errno, "open the image '%s'", path);
    if (S_ISREG(st.st_mode)) {
        return file_loop_look(fd, &r->device, err) < 0
                   ? error_prefix(err, "show '%s' as a block device", path)
                   : 0;
    }
    if (!S_ISBLK(st.st_mode))
        return error_set(err, ERR_INVALID, "'%s' is neither a file nor a block device", path);
    r->device.dev = st.st_rdev;
    r->device.fd = TAKE_FD(fd);
    return 0;
}

static struct crypt_volume target(const struct rescue *r)
{
    return (struct crypt_volume){ .dm_name = r->dm_name,
                                  .record = &r->record,
                                  .device_fd = r->device.fd,
                                  .device = r->device.dev,
                                  .lock_fd = -1 };
}

/* ---- by a private key ---- */

/* coffer-crypt reads it; a pipe is fine, so that a key with a passphrase needs no file without. */
static int by_private_key(struct rescue *r, struct error *err)
{
    AUTO_CLOSE int fd = open(options.private_key, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    const struct crypt_volume v = target(r);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return error_errno(err, errno, "open the private key '%s'", options.private_key);
    if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode))
        return error_set(err, ERR_INVALID, "the private key '%s' must be a file or a pipe",
                         options.private_key);
    return crypt_rescue(&r->client, &v, fd, STDOUT_FILENO, deadline_in(CRYPT_MS), err);
}

/* ---- by Vault ---- */

static int unwrap(const struct rescue *r, const struct own_keyd *keyd, int to, struct error *err)
{
    const struct record *rec = &r->record;
    const struct keyd_binding binding = {
        .kms = rec->kms, .tenant = rec->tenant, .volume_id = rec->id, .uuid = rec->uuid
    };
    struct keyd_wrapped key;

    if (keyd_wrapped_of(rec, &key, err) < 0)
        return -1;
    return keyd_unwrap(keyd->socket, &binding, &key, KEYD_USE_BREAK_GLASS, NULL, to,
                       deadline_in(UNWRAP_MS), err);
}

static int by_vault(struct rescue *r, struct error *err)
{
    AUTO_OWN_KEYD struct own_keyd keyd = OWN_KEYD_INIT;
    const struct crypt_volume v = target(r);
    int ends[2];

    if (strcmp(r->record.key_source, "vault") != 0)
        return error_set(err, ERR_PRECONDITION,
                         "the key of volume '%s' wasn't made by a key service (keySource %s): only "
                         "a recipient's private key opens it",
                         r->record.id, r->record.key_source);
    if (own_keyd_start(options.keyd, r->cli->config, &keyd, err) < 0)
        return -1;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_errno(err, errno, "make a pipe");
    AUTO_CLOSE int from = ends[0];
    AUTO_CLOSE int to = ends[1];
    if (unwrap(r, &keyd, to, err) < 0)
        return -1;
    return crypt_passphrase(&r->client, &v, from, STDOUT_FILENO, deadline_in(CRYPT_MS), err);
}

/* ---- the whole ---- */

/* One line on stderr, and the same for the host's own log. */
static void audit(const struct rescue *r, const struct error *err)
{
    const char *way = options.vault ? "vault" : "private-key";

    log_audit(KV("action", "rescue"), KV("volume_id", r->record.id), KV("tenant", r->record.tenant),
              KV("by", way), KV("reason", options.reason), KV("uid", getuid()),
              KV("result", error_code_name(err->code)));
    openlog("cofferctl", LOG_PID, LOG_AUTHPRIV);
    syslog(LOG_NOTICE, "audit: action=rescue volume_id=%s by=%s uid=%u result=%s", r->record.id,
           way, (unsigned)getuid(), error_code_name(err->code));
}

static int rescue(struct rescue *r, struct error *err)
{
    struct error own = ERROR_INIT;

    if (check_output(err) < 0 || read_record(r, err) < 0 || open_image(r, err) < 0)
        return -1;
    int result = options.vault ? by_vault(r, &own) : by_private_key(r, &own);
    audit(r, &own);
    if (result < 0)
        return error_pass(err, &own);
    (void)fprintf(r->cli->notes,
                  "cofferctl: the passphrase of volume '%s' was written to the standard output\n",
                  r->record.id);
    return 0;
}

static int run(const struct cli *cli, struct error *err)
{
    struct rescue r = { .cli = cli,
                        .device = BLOCK_DEVICE_INIT,
                        .client = { .helper = options.crypt_helper } };
    int result = rescue(&r, err);

    block_device_close(&r.device);
    return result;
}

const struct verb volume_rescue = {
    .group = "volume",
    .name = "rescue",
    .operand = "IMAGE",
    .help = "break-glass without a node: write the passphrase of the volume in an image to the "
            "standard output, by a recipient's private key or a Vault token",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .check = check,
    .run = run,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl volume unlock-key: break-glass. coffer-crypt writes the volume's LUKS passphrase to a
 * descriptor of this process; coffer-node, which asks it to, never sees the passphrase and logs the
 * audit line. When stdout is a terminal or a pipe it is that descriptor, and this process never
 * holds the passphrase either; else (a file) it copies it from a pipe of its own.
 */
#include "common/base.h"
#include "cofferctl/verbs.h"

#include "cofferctl/confirm.h"
#include "cofferctl/endpoint.h"
#include "cofferctl/namespace.h"
#include "common/cleanup.h"
#include "common/fs.h"
#include "common/json.h"
#include "common/secret.h"
#include "csi/client.h"
#include "volume/id.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define METHOD         "coffer.v1.NodeAdmin/UnlockKey"
#define TIMEOUT_MS     120000u
#define PASSPHRASE_MAX 4096u

static struct {
    const char *reason, *admin_socket;
    bool yes;
} options;

static const struct flag flags[] = {
    { "reason", NULL, FLAG_STRING, &options.reason, "", "why, for the audit line; required", NULL },
    { "admin-socket", "COFFER_ADMIN_SOCKET", FLAG_STRING, &options.admin_socket,
      "/run/coffer/admin.sock", "coffer-node's admin socket", NULL },
    { "yes", NULL, FLAG_BOOL, &options.yes, "false", "don't ask on the terminal", NULL },
};

static int check(const struct cli *cli UNUSED, struct error *err)
{
    if (options.reason[0] == '\0')
        return error_set(err, ERR_INVALID, "--reason is needed: it goes into the audit line");
    return 0;
}

static int ask(const char *id, struct error *err)
{
    char what[VOLUME_ID_MAX + 256];
    (void)snprintf(what, sizeof(what),
                   "This writes the passphrase of volume %s to the standard output.\n"
                   "Whoever has it and a copy of the volume's header can read the volume.\n"
                   "Type the volume's id to go on: ",
                   id);
    return confirm(what, id, "nothing was written", err);
}

/* ---- the call ---- */

static int call(const char *id, int output, struct error *err)
{
    AUTO_STRBUF struct strbuf endpoint = STRBUF_INIT(512);
    AUTO_JSON json_t *reply = NULL;
    AUTO_JSON json_t *request =
        json_pack("{s:s, s:I, s:I, s:s}", "volume_id", id, "output_pid", (json_int_t)getpid(),
                  "output_fd", (json_int_t)output, "reason", options.reason);
    if (request == NULL)
        return error_set(err, ERR_INVALID, "--reason is not UTF-8 text");
    if (endpoint_of(options.admin_socket, "--admin-socket", &endpoint, err) < 0)
        return -1;
    return csi_client_call(strbuf_text(&endpoint), METHOD, request, TIMEOUT_MS, &reply, err);
}

static bool is_pipe_or_terminal(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 &&
           (S_ISFIFO(st.st_mode) || (S_ISCHR(st.st_mode) && isatty(fd) == 1));
}

/* The passphrase was written before the answer came: what is in the pipe now is all of it. */
static int copy(int from, int to, struct error *err)
{
    AUTO_SECRET struct secret *passphrase = secret_new(PASSPHRASE_MAX, err);
    if (passphrase == NULL)
        return -1;
    ssize_t n = read(from, secret_bytes(passphrase), PASSPHRASE_MAX);
    if (n <= 0)
        return error_set(err, ERR_INTERNAL, "coffer-node answered OK, but nothing was written");
    return fs_write_all(to, secret_data(passphrase), (size_t)n, "the standard output", err);
}

/* Core dumps are off for the whole of it. Not PR_SET_DUMPABLE: coffer-node opens our descriptor
 * through /proc. */
static int call_and_copy(const char *id, struct error *err)
{
    const struct rlimit none = { .rlim_cur = 0, .rlim_max = 0 };
    int ends[2];
    if (setrlimit(RLIMIT_CORE, &none) < 0)
        return error_errno(err, errno, "set RLIMIT_CORE to 0");
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return error_errno(err, errno, "make a pipe");
    AUTO_CLOSE int from = ends[0];
    AUTO_CLOSE int to = ends[1];
    if (call(id, to, err) < 0)
        return -1;
    return copy(from, STDOUT_FILENO, err);
}

static int run(const struct cli *cli, struct error *err)
{
    struct volume_id id;
    if (volume_id_parse(cli->operand, &id, err) < 0 ||
        namespace_check(endpoint_path(options.admin_socket), err) < 0)
        return -1;
    if (!options.yes && ask(cli->operand, err) < 0)
        return -1;
    int r = is_pipe_or_terminal(STDOUT_FILENO) ? call(cli->operand, STDOUT_FILENO, err)
                                               : call_and_copy(cli->operand, err);
    if (r < 0)
        return -1;
    (void)fprintf(cli->notes,
                  "cofferctl: the passphrase of volume '%s' was written to the standard output\n",
                  cli->operand);
    return 0;
}

const struct verb volume_unlock_key = {
    .group = "volume",
    .name = "unlock-key",
    .operand = "ID",
    .help = "break-glass: write the volume's LUKS passphrase to the standard output, one line in "
            "either --output",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .check = check,
    .run = run,
};

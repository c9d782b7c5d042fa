/* SPDX-License-Identifier: Apache-2.0 */
/* coffer-crypt VERB: one verb on one volume, then exit. See crypt/client.h for descriptors and
 * wire. */
#include "common/base.h"

#include "common/cleanup.h"
#include "common/fs.h"
#include "common/secret.h"
#include "common/strbuf.h"
#include "crypt/dm.h"
#include "crypt/sandbox.h"
#include "crypt/verb.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#define REQUEST_MAX 65536u
#define FD_LAST     FD_PRIVATE_KEY

enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2 };

/* A number that wasn't passed must not become some library's file: descriptor 4 has a meaning here.
 */
static int fill_gaps(struct error *err)
{
    for (int fd = 0; fd <= FD_LAST; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            continue;
        if (open("/dev/null", O_RDONLY) != fd)
            return error_errno(err, errno, "put /dev/null on descriptor %d", fd);
    }
    if (close_range(FD_LAST + 1, ~0U, 0) < 0)
        return error_errno(err, errno, "close what was inherited");
    return 0;
}

/* The environment steers libraries (OPENSSL_CONF, LIBBLKID_DEBUG, DM_…): none of it is wanted. */
static int reset_environment(struct error *err)
{
#ifdef COFFER_FAULT
    const char *dir = getenv("COFFER_FAULT_DIR");
    AUTO_FREE char *kept = dir != NULL ? strdup(dir) : NULL;
#endif
    if (clearenv() != 0 || setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1) < 0)
        return error_set(err, ERR_INTERNAL, "the environment can't be reset");
#ifdef COFFER_FAULT
    if (kept != NULL && setenv("COFFER_FAULT_DIR", kept, 1) < 0)
        return error_errno(err, errno, "setenv");
#endif
    return 0;
}

static int harden(struct error *err)
{
    if (secret_harden_process(err) < 0 || fill_gaps(err) < 0 || reset_environment(err) < 0)
        return -1;
    (void)umask(077);
    (void)signal(SIGPIPE, SIG_IGN);
    return 0;
}

static int check_pipe(int fd, const char *what, struct error *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode))
        return error_set(err, ERR_INVALID, "descriptor %d must be the pipe that brings the %s", fd,
                         what);
    return 0;
}

/* A pipe too: so a key with a passphrase needs no file without one. */
static int check_private_key(struct error *err)
{
    struct stat st;

    if (fstat(FD_PRIVATE_KEY, &st) < 0 || !(S_ISFIFO(st.st_mode) || S_ISREG(st.st_mode)))
        return error_set(err, ERR_INVALID,
                         "descriptor %d must be a file or a pipe that holds the private key",
                         FD_PRIVATE_KEY);
    return 0;
}

static int check_descriptors(const struct verb *verb, struct error *err)
{
    int flags = fcntl(FD_OUT, F_GETFL);

    if ((verb->takes & TAKES_KEY) != 0 && check_pipe(FD_KEY, "key", err) < 0)
        return -1;
    if ((verb->takes & TAKES_NEW_KEY) != 0 && check_pipe(FD_NEW_KEY, "new key", err) < 0)
        return -1;
    if ((verb->takes & TAKES_PRIVATE_KEY) != 0 && check_private_key(err) < 0)
        return -1;
    if ((verb->takes & TAKES_OUT) != 0 && (flags < 0 || (flags & O_ACCMODE) == O_RDONLY))
        return error_set(err, ERR_INVALID, "descriptor %d must be writable", FD_OUT);
    return 0;
}

static unsigned sandbox_parts(const struct verb *verb)
{
    static const struct {
        unsigned takes, parts;
    } rows[] = {
        { TAKES_DM_UUID, SANDBOX_DM_WRITE },
        { TAKES_DEVICE_FD, SANDBOX_DISK },
        { TAKES_KEY, SANDBOX_KEYED | SANDBOX_DM_WRITE },
        { TAKES_PRIVATE_KEY, SANDBOX_KEYED },
        { WRITES_HEADER, SANDBOX_FORMAT },
    };
    unsigned parts = 0;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if ((verb->takes & rows[i].takes) != 0)
            parts |= rows[i].parts;
    }
    return parts;
}

static int run(const struct verb *verb, json_t *reply, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(REQUEST_MAX);
    struct request q;

    if (check_descriptors(verb, err) < 0 ||
        fs_read_fd(STDIN_FILENO, "request", REQUEST_MAX, &text, err) < 0)
        return -1;
    dm_setup();
    if ((verb->takes & TAKES_DEVICE_FD) != 0 && luks_setup(err) < 0)
        return -1;
    if (sandbox_enter(sandbox_parts(verb), err) < 0)
        return -1;
    if (request_decode(verb, strbuf_text(&text), text.len, &q, err) < 0)
        return -1;
    return verb->run(&q, reply, err);
}

static int write_line(const char *text)
{
    struct error err = ERROR_INIT;

    if (fs_write_all(STDOUT_FILENO, text, strlen(text), "reply", &err) < 0 ||
        fs_write_all(STDOUT_FILENO, "\n", 1, "reply", &err) < 0)
        return EXIT_REFUSED;
    return EXIT_DONE;
}

/* That memory is lacking is said without any. */
static int answer_no_memory(void)
{
    (void)write_line("{\"error\":{\"code\":\"RESOURCE_EXHAUSTED\","
                     "\"message\":\"out of memory\"}}");
    return EXIT_REFUSED;
}

static int answer(json_t *reply)
{
    AUTO_FREE char *text = reply != NULL ? json_text(reply, JSON_COMPACT) : NULL;

    return text != NULL ? write_line(text) : answer_no_memory();
}

/* Messages quote what a disk says, which may be no text at all: JSON wants UTF-8, a log wants one
 * line. */
static void make_plain(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < ' ' || *text > '~')
            *text = '?';
    }
}

static int answer_error(struct error *err)
{
    AUTO_JSON json_t *reply = NULL;

    make_plain(err->msg);
    reply =
        json_pack("{s{ss ss}}", "error", "code", error_code_name(err->code), "message", err->msg);
    (void)answer(reply);
    return EXIT_REFUSED;
}

static int usage(FILE *to, int code)
{
    (void)fprintf(
        to,
        "usage: coffer-crypt VERB\n"
        "Runs one operation on one encrypted volume; started by coffer-node, not by hand.\n"
        "Request as JSON on stdin, answer on stdout; verbs: %s.\n",
        verb_names());
    return code;
}

int main(int argc, char **argv)
{
    struct error err = ERROR_INIT;
    AUTO_JSON json_t *reply = NULL;
    const struct verb *verb;

    if (harden(&err) < 0)
        return answer_error(&err);
    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return usage(stdout, EXIT_DONE);
    if (argc == 2 && strcmp(argv[1], "--version") == 0)
        return printf("coffer-crypt %s\n", COFFER_VERSION) > 0 ? EXIT_DONE : EXIT_REFUSED;
    verb = argc == 2 ? verb_find(argv[1]) : NULL;
    if (verb == NULL)
        return usage(stderr, EXIT_USAGE);
    reply = json_object();
    if (reply == NULL)
        (void)error_memory(&err);
    if (reply == NULL || run(verb, reply, &err) < 0)
        return answer_error(&err);
    return answer(reply);
}

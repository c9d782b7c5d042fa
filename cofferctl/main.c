/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl: the administrator's command line tool, and a user's device (vm). */
#include "common/base.h"
#include "cofferctl/cli.h"

#include <signal.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    /* A reader that goes away is an error of our own, not a silent end. */
    (void)signal(SIGPIPE, SIG_IGN);
    int code = cli_main(argc, argv, stdout, stderr);
    if (fflush(stdout) != 0 && code == 0)
        code = CLI_FAILED;
#ifdef COFFER_SANITIZER
    return code;
#else
    _exit(code); /* gRPC's threads may still run; they hold nothing of ours */
#endif
}

/* SPDX-License-Identifier: Apache-2.0 */
/* my-database: what stands for a database in a pod of the tests. It keeps numbered records in one
 * file below its data path (/var/lib/postgresql/data, or $PGDATA), and answers for each of them
 * after a restart or a power cut.
 *
 *   my-database            checks what is there, then adds a record a second until SIGTERM
 *   my-database put TEXT   adds one record
 *   my-database list       prints all records
 *
 * "wrote N" is printed when record N is on the disk, not before. A record that the last power cut
 * left half-written is cut off; anything else that isn't as it was written is "damaged", exit 1.
 * A record is one line: number, text, checksum. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define RECORD_MAX 512
#define HEARTBEAT  "my-database keeps this record"

static volatile sig_atomic_t ending;

static void end(int number)
{
    (void)number;
    ending = 1;
}

static void die(const char *what)
{
    fprintf(stderr, "my-database: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint32_t checksum(const char *text, size_t len) /* FNV-1a */
{
    uint32_t sum = 2166136261u;

    while (len--)
        sum = (sum ^ (uint8_t)*text++) * 16777619u;
    return sum;
}

static int open_records(void)
{
    const char *folder = getenv("PGDATA");
    char path[4096];
    int fd;

    folder = folder ? folder : "/var/lib/postgresql/data";
    snprintf(path, sizeof(path), "%s/records", folder);
    fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        die(path);
    if (flock(fd, LOCK_EX))
        die("flock");
    int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || fsync(dir))
        die(folder);
    close(dir);
    return fd;
}

/* The number at the line's start when the line is whole and says `wanted`; else 0. */
static int line_is(const char *line, size_t len, unsigned wanted)
{
    char end_of_it[16];
    unsigned number;

    if (len < 20 || sscanf(line, "%8u ", &number) != 1 || number != wanted)
        return 0;
    snprintf(end_of_it, sizeof(end_of_it), " %08x\n", checksum(line, len - 10));
    return !memcmp(line + len - 10, end_of_it, 10);
}

/* How many records there are. A half-written last line is cut off. */
static unsigned read_records(int fd, int print)
{
    FILE *in = fdopen(dup(fd), "r");
    char line[RECORD_MAX + 2];
    unsigned count = 0;
    off_t good = 0;

    if (!in || fseeko(in, 0, SEEK_SET))
        die("cannot read");
    while (fgets(line, sizeof(line), in)) {
        size_t len = strlen(line);

        if (!line_is(line, len, count + 1)) {
            if (len && line[len - 1] == '\n') {
                fprintf(stderr, "my-database: damaged at record %u\n", count + 1);
                exit(1);
            }
            break;
        }
        count++;
        good += (off_t)len;
        if (print)
            printf("%.*s\n", (int)len - 10, line);
    }
    if (ferror(in) || ftruncate(fd, good))
        die("cannot read");
    fclose(in);
    return count;
}

static void add(int fd, unsigned number, const char *text)
{
    char line[RECORD_MAX];
    int len = snprintf(line, sizeof(line) - 11, "%08u %s", number, text);

    if (len < 0 || len >= (int)sizeof(line) - 11) {
        errno = EMSGSIZE;
        die(text);
    }
    len += sprintf(line + len, " %08x\n", checksum(line, (size_t)len));
    if (write(fd, line, (size_t)len) != len || fsync(fd))
        die("cannot write");
    printf("wrote %u\n", number);
    fflush(stdout);
}

static int put(const char *text)
{
    int fd = open_records();

    add(fd, read_records(fd, 0) + 1, text);
    return 0;
}

static int list(void)
{
    read_records(open_records(), 1);
    return 0;
}

/* The lock is given back between two records, for "put". */
static int serve(void)
{
    struct sigaction action = { .sa_handler = end };
    int fd = open_records();

    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    printf("my-database: found %u records\n", read_records(fd, 0));
    while (!ending) {
        add(fd, read_records(fd, 0) + 1, HEARTBEAT);
        flock(fd, LOCK_UN);
        sleep(1);
        while (flock(fd, LOCK_EX) && errno == EINTR)
            ;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 1)
        return serve();
    if (argc == 3 && !strcmp(argv[1], "put"))
        return put(argv[2]);
    if (argc == 2 && !strcmp(argv[1], "list"))
        return list();
    fprintf(stderr, "usage: my-database [put TEXT | list]\n");
    return 2;
}

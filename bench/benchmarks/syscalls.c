/* Nanoseconds per call of a few system calls, as a user's program sees them.
 *
 *   syscalls DIRECTORY RESULT [filter|landlock]
 *
 * Reads and opens files below DIRECTORY (data, and a/b/c/d/e/f/g/h/data), writes "NAME NANOSECONDS"
 * lines to RESULT: the best of several repetitions, so that other work on the machine weighs little.
 * With "filter", behind the smallest seccomp filter that makes sense (it refuses one call); with
 * "landlock", behind a Landlock ruleset of one rule as well. No sandbox that uses these can be faster.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#define ARCHITECTURE 0 /* Not a machine that we know: "filter" is killed, and its row says so. */
#endif

#define REPETITIONS 7

static char shallow[4096], deep[4096];
static int opened;

static void fail(const char *what) {
    perror(what);
    exit(2);
}

static void call_getpid(void) {
    syscall(SYS_getpid);
}

static void call_pread(void) {
    char buffer[512];
    if (pread(opened, buffer, sizeof buffer, 0) != sizeof buffer) fail("pread");
}

static void open_and_close(const char *path) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) fail(path);
    close(file);
}

static void call_open(void) {
    open_and_close(shallow);
}

static void call_open_deep(void) {
    open_and_close(deep);
}

static void call_stat(void) {
    struct stat found;
    if (stat(shallow, &found) != 0) fail("stat");
}

static void call_fork(void) {
    int status;
    pid_t child = fork();
    if (child == 0) _exit(0);
    if (child < 0 || waitpid(child, &status, 0) != child) fail("fork");
}

static double best(void (*call)(void), long count) {
    double least = 1e18;
    for (int repetition = 0; repetition < REPETITIONS; repetition++) {
        struct timespec before, after;
        clock_gettime(CLOCK_MONOTONIC, &before);
        for (long i = 0; i < count; i++) call();
        clock_gettime(CLOCK_MONOTONIC, &after);
        double spent = (after.tv_sec - before.tv_sec) * 1e9 + (after.tv_nsec - before.tv_nsec);
        if (spent / count < least) least = spent / count;
    }
    return least;
}

static void install_ruleset(const char *directory) {
    /* Every right of ABI 1, so that it works wherever Landlock does. */
    struct landlock_ruleset_attr handled = {
        .handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1,
    };
    struct landlock_path_beneath_attr below = {
        .allowed_access = handled.handled_access_fs,
        .parent_fd = open(directory, O_PATH | O_CLOEXEC),
    };
    int ruleset = syscall(SYS_landlock_create_ruleset, &handled, sizeof handled.handled_access_fs, 0);
    if (ruleset < 0) fail("landlock_create_ruleset");
    if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &below, 0) != 0)
        fail("landlock_add_rule");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail("no_new_privs");
    if (syscall(SYS_landlock_restrict_self, ruleset, 0) != 0) fail("landlock_restrict_self");
    close(ruleset);
    close(below.parent_fd);
}

static void install_filter(void) {
    struct sock_filter instructions[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_reboot, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof instructions / sizeof *instructions, instructions};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail("no_new_privs");
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) fail("seccomp");
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: syscalls DIRECTORY RESULT [filter|landlock]\n");
        return 2;
    }
    if (argc > 3 && strcmp(argv[3], "landlock") == 0) install_ruleset(argv[1]);
    if (argc > 3) install_filter();
    snprintf(shallow, sizeof shallow, "%s/data", argv[1]);
    snprintf(deep, sizeof deep, "%s/a/b/c/d/e/f/g/h/data", argv[1]);
    opened = open(shallow, O_RDONLY | O_CLOEXEC);
    if (opened < 0) fail(shallow);
    FILE *result = fopen(argv[2], "w");
    if (result == NULL) fail(argv[2]);
    fprintf(result, "getpid %.1f\n", best(call_getpid, 200000));
    fprintf(result, "pread %.1f\n", best(call_pread, 100000));
    fprintf(result, "open+close %.1f\n", best(call_open, 10000));
    fprintf(result, "open+close-deep %.1f\n", best(call_open_deep, 10000));
    fprintf(result, "stat %.1f\n", best(call_stat, 20000));
    fprintf(result, "fork+wait %.1f\n", best(call_fork, 200));
    return fclose(result) == 0 ? 0 : 2;
}

"""Compilers and what they make: gcc, make, Java."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..desks import Desk

THREADS = r"""
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
static void *twice(void *n) { return (void *)((long)n * 2); }
int main(void) {
    pthread_t threads[16];
    long sum = 0;
    for (long i = 0; i < 16; i++)
        if (pthread_create(&threads[i], 0, twice, (void *)i)) return 1;
    for (int i = 0; i < 16; i++) { void *r; pthread_join(threads[i], &r); sum += (long)r; }
    printf("%ld\n", sum);
    return 0;
}
"""

JAVA = """
import java.util.concurrent.*;
import java.util.stream.*;

class Sum {
    public static void main(String[] arguments) throws Exception {
        var pool = Executors.newFixedThreadPool(4);
        var parts = IntStream.range(0, 8).mapToObj(n -> pool.submit(() -> n * n)).toList();
        int sum = 0;
        for (var part : parts) sum += part.get();
        pool.shutdown();
        var echo = new ProcessBuilder("echo", "child").start();
        System.out.println(sum + " " + new String(echo.getInputStream().readAllBytes()).trim());
    }
}
"""


def test_gcc_compiles_and_the_program_runs(desk: Desk) -> None:
    desk.needs("gcc")
    desk.write("threads.c", THREADS)
    desk.write("script.sh", "set -e\ngcc -O2 -Wall -pthread -o threads threads.c\n./threads\n")
    assert desk.agree("sh", "script.sh") == "240\n"


def test_make_builds_in_parallel(desk: Desk) -> None:
    desk.needs("gcc", "make")
    desk.write("main.c", "int one(void), two(void); int main(void) { return one() + two() - 3; }\n")
    desk.write("one.c", "int one(void) { return 1; }\n")
    desk.write("two.c", "int two(void) { return 2; }\n")
    desk.write(
        "Makefile",
        "all: program\n\t./program && echo built\n"
        "program: main.o one.o two.o lib.a\n\t$(CC) -o $@ main.o lib.a\n"
        "lib.a: one.o two.o\n\tar rcs $@ $^\n",
    )
    assert desk.agree("make", "-s", "-j4") == "built\n"


def test_java_compiles_and_runs_with_threads(desk: Desk) -> None:
    desk.needs("javac")
    desk.write("Sum.java", JAVA)
    desk.write("script.sh", "set -e\njavac Sum.java\njava Sum\n")
    assert desk.agree("sh", "script.sh", timeout=120) == "140 child\n"

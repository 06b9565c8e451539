/* A wall clock that is ahead by CLOCK_OFFSET seconds, for a process that loads this library first, and its children.
 *
 * Only the time of day differs; intervals, timeouts and sleeps stay as they are. libfaketime 0.9.10 fails there: with
 * FAKETIME_DONT_FAKE_MONOTONIC=1 each clock_nanosleep to a point of the monotonic clock, such as Python's time.sleep,
 * returns EINVAL or sleeps for the offset; without it, it changes the monotonic clock, which native code waits by.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long ahead(void) {
    const char *seconds = getenv("CLOCK_OFFSET");
    return seconds ? atol(seconds) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += ahead();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int failed = (int)syscall(SYS_gettimeofday, now, zone);
    if (!failed) now->tv_sec += ahead();
    return failed;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}

/* Time the calls of an exported receiver, without Python between them.
 *
 * Build: cc -O2 -D_GNU_SOURCE -DRECEIVER='"NAME.h"' slot_timer.c NAME.c -o slot_timer -lm
 * Run:   ./slot_timer NUM_PRB BITS_PER_SYMBOL CALLS PERIOD_NS < slots.f32 > seconds.f64
 *
 * A slot is the float32 values noise_var, y[LEANRX_NUM_RX][14][F][2] and pilots[14][F][2]. All slots are read first, and
 * the calls take them in turn. A slot arrives every PERIOD_NS. Its time ends with its LLRs, so it contains the delay of the
 * wake-up, and the wait for calls before it that are late. With PERIOD_NS 0, a slot arrives when the call before ends. The
 * output is float64: wall clock and CPU time of each slot in seconds.
 */
#include RECEIVER

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static float llrs[LEANRX_NUM_BITS * 14 * 12 * LEANRX_MAX_PRB];

static int64_t now_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void sleep_until(int64_t ns) {
    struct timespec t = {ns / 1000000000, ns % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0);
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: %s NUM_PRB BITS_PER_SYMBOL CALLS PERIOD_NS < slots.f32 > seconds.f64\n", argv[0]);
        return 2;
    }
    int num_prb = atoi(argv[1]), bits_per_symbol = atoi(argv[2]);
    long calls = atol(argv[3]), num_slots = 0;
    int64_t period_ns = atol(argv[4]);
    size_t num_res = 14 * 12 * (size_t)num_prb, slot_floats = 1 + 2 * num_res * (LEANRX_NUM_RX + 1);
    float *slots = 0;
    for (;;) {
        float *grown = realloc(slots, sizeof(float) * slot_floats * (size_t)(num_slots + 1));
        if (!grown) return 2;
        slots = grown;
        if (fread(slots + slot_floats * (size_t)num_slots, sizeof(float), slot_floats, stdin) != slot_floats) break;
        num_slots++;
    }
    double *seconds = malloc(sizeof(double) * 2 * (size_t)calls);
    if (!num_slots || !seconds) return 2;
    for (long i = 0; i < 2 * calls; i++) seconds[i] = 0; /* so that the pages exist */
    mlockall(MCL_CURRENT | MCL_FUTURE);
    int64_t arrival = now_ns(CLOCK_MONOTONIC);
    for (long i = -3; i < calls; i++) { /* three calls are not timed */
        const float *slot = slots + slot_floats * (size_t)((i + 3) % num_slots), *y = slot + 1;
        arrival = period_ns ? arrival + period_ns : now_ns(CLOCK_MONOTONIC);
        if (period_ns) sleep_until(arrival);
        int64_t cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
        int code = leanrx_receive(y, y + 2 * num_res * LEANRX_NUM_RX, slot[0], bits_per_symbol, num_prb, llrs);
        int64_t wall_ns = now_ns(CLOCK_MONOTONIC) - arrival;
        cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns;
        if (code != LEANRX_OK) {
            fprintf(stderr, "%s\n", leanrx_message(code));
            return 2;
        }
        if (i >= 0) seconds[2 * i] = 1e-9 * (double)wall_ns, seconds[2 * i + 1] = 1e-9 * (double)cpu_ns;
    }
    return fwrite(seconds, sizeof(double), 2 * (size_t)calls, stdout) == 2 * (size_t)calls ? 0 : 2;
}

/* The floor: the kernel's own `score` in a loop of C, without Python between two windows. bench/test_score.py builds it. */
#include "../agent/oomguard/_kernel.c"
#include <time.h>

/* Nanoseconds that n scores took, each window with its facts; out is float64[n][HORIZONS]. */
int64_t floor_ns(const Forest *forest, const struct window *const *windows, const double *const *facts, int64_t n, double *out)
{
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int64_t i = 0; i < n; i++) score(forest, windows[i], facts[i], out + i * HORIZONS);
    clock_gettime(CLOCK_MONOTONIC, &end);
    return (end.tv_sec - start.tv_sec) * 1000000000LL + end.tv_nsec - start.tv_nsec;
}

/* The same for the walk alone: rows is float32[n][FEATURES]; unknown values are folded, leaves summed. */
int64_t walk_ns(const Forest *forest, const float *rows, int64_t n, double *margins)
{
    struct timespec start, end;
    uint32_t twice[2 * MAX_FEATURES];
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int64_t i = 0; i < n; i++) {
        fold_unknown(rows + i * FEATURES, FEATURES, twice);
        walk(forest, twice, margins);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    return (end.tv_sec - start.tv_sec) * 1000000000LL + end.tv_nsec - start.tv_nsec;
}

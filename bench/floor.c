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
    uint32_t twice[2 * FEATURES];
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int64_t i = 0; i < n; i++) {
        fold_unknown(rows + i * FEATURES, twice);
        walk(forest, twice, margins);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    return (end.tv_sec - start.tv_sec) * 1000000000LL + end.tv_nsec - start.tv_nsec;
}

static void flush(const void *from, size_t bytes)
{
#if defined(__x86_64__)
    for (size_t at = 0; at < bytes; at += 64) __asm__ volatile("clflush (%0)" : : "r"((const char *)from + at) : "memory");
    __asm__ volatile("mfence" : : : "memory");
#else
    (void)from; (void)bytes;
#endif
}

/* Single scores of windows that are in no cache, nor is the forest: what memory itself costs. */
int64_t cold_ns(const Forest *forest, const struct window *const *windows, const double *const *facts, int64_t n, double *out, int64_t *took)
{
    size_t inner = ((size_t)1 << forest->head.depth) - 1, trees = forest->head.trees;
    for (int64_t i = 0; i < n; i++) {
        struct timespec start, end;
        flush(windows[i], sizeof(struct window));
        flush(forest->leaves, trees * (inner + 1) * forest->head.leaf_size * sizeof *forest->leaves);
        flush(forest->thresholds, trees * inner * sizeof *forest->thresholds);
        flush(forest->places, trees * inner * sizeof *forest->places);
        clock_gettime(CLOCK_MONOTONIC, &start);
        score(forest, windows[i], facts[i], out + i * HORIZONS);
        clock_gettime(CLOCK_MONOTONIC, &end);
        took[i] = (end.tv_sec - start.tv_sec) * 1000000000LL + end.tv_nsec - start.tv_nsec;
    }
    return 0;
}

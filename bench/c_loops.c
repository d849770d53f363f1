/* The peers' C interfaces, each in a loop of C over rows, one row a call: nanoseconds of all together. */
#include <stdint.h>
#include <stdio.h>
#include <time.h>

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

enum { MOST_CLASSES = 64, MOST_FEATURES = 256 };

/* XGBoosterPredictFromDense: an array interface as text per row, for it knows no other way. */
typedef int (*dense_fn)(void *, const char *, const char *, void *, const uint64_t **, uint64_t *, const float **);
int64_t loop_xgboost(dense_fn predict, void *booster, const float *rows, int64_t n, int64_t features)
{
    static const char settings[] = "{\"type\": 0, \"training\": false, \"iteration_begin\": 0, \"iteration_end\": 0, \"strict_shape\": false,"
                                   " \"missing\": NaN, \"cache_id\": 0}";
    const uint64_t *shape;
    uint64_t dimensions;
    const float *result;
    int64_t start = now_ns();
    for (int64_t i = 0; i < n; i++) {
        char row[256];
        snprintf(row, sizeof row, "{\"data\": [%zu, true], \"shape\": [1, %d], \"typestr\": \"<f4\", \"version\": 3}", (size_t)(rows + i * features), (int)features);
        if (predict(booster, row, settings, NULL, &shape, &dimensions, &result)) return -1;
    }
    return now_ns() - start;
}

typedef int (*fast_fn)(void *, const void *, int64_t *, double *);
int64_t loop_lightgbm(fast_fn predict, void *fast, const double *rows, int64_t n, int64_t features)
{
    double result[MOST_CLASSES];
    int64_t length, start = now_ns();
    for (int64_t i = 0; i < n; i++) if (predict(fast, rows + i * features, &length, result)) return -1;
    return now_ns() - start;
}

/* What tl2cgen generates: an entry is a value, or -1 where it is missing; it may overwrite them. */
union entry { int missing; float fvalue; };
typedef void (*generated_fn)(union entry *, int, float *);
int64_t loop_tl2cgen(generated_fn predict, const float *rows, int64_t n, int64_t features)
{
    union entry data[MOST_FEATURES];
    float result[MOST_CLASSES];
    int64_t start = now_ns();
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < features; k++)
            if (rows[i * features + k] != rows[i * features + k]) data[k].missing = -1; else data[k].fvalue = rows[i * features + k];
        predict(data, 0, result);
    }
    return now_ns() - start;
}

typedef void (*root_fn)(const double *, double *, int, int);
int64_t loop_lleaves(root_fn predict, const double *rows, int64_t n, int64_t features)
{
    double result[MOST_CLASSES];
    int64_t start = now_ns();
    for (int64_t i = 0; i < n; i++) predict(rows + i * features, result, 0, 1);
    return now_ns() - start;
}

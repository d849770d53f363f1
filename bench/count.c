/* The kernel's own work and nothing else, to be counted: a file of windows, facts, samples and a forest in; `count` of
 * a stage's calls out. Runs natively, under valgrind and under qemu; no Python is needed to run it.
 *
 *   count FILE STAGE TIMES [plain]    STAGE may be `all`; prints checksums of the results and of every window's features;
 *                                     `plain` is without what the processor has beyond the least of its kind
 *
 * FILE is written by bench/instructions.py: uint64 {windows, samples, forest bytes}; forest; float32 low, high; knots;
 * {window, float64[8] facts} each; samples as float64[VALUES + 2]: segment and phase follow the values.
 * OOMGUARD_KERNEL names another kernel source than ours.
 */
#ifndef OOMGUARD_KERNEL
#define OOMGUARD_KERNEL "../agent/oomguard/_kernel.c"
#endif
#include OOMGUARD_KERNEL
#include <stdio.h>

struct input {
    uint64_t windows, samples, forest_bytes;
    Forest forest;
    char *pairs;
    const double *values;
    float *rows;
};

enum { PAIR_BYTES = sizeof(struct window) + 64, SAMPLE_VALUES = VALUES + 2 };
#ifdef __clang__                /* a stage stays a function of its own, to be counted as one */
#define STAGE static __attribute__((noinline)) void
#else
#define STAGE static __attribute__((noipa)) void
#endif

static void *part(FILE *file, size_t bytes)
{
    void *at = NULL;
    if (posix_memalign(&at, 64, bytes + 64) || fread(at, 1, bytes, file) != bytes) exit(2);
    return at;
}

static const struct window *window_of(const struct input *in, uint64_t i) { return (struct window *)(in->pairs + i % in->windows * PAIR_BYTES); }
static const double *facts_of(const struct input *in, uint64_t i) { return (double *)(in->pairs + i % in->windows * PAIR_BYTES + sizeof(struct window)); }

static void load(const char *path, struct input *in)
{
    FILE *file = fopen(path, "rb");
    if (!file || fread(in, 8, 3, file) != 3) exit(2);
    char *forest = part(file, in->forest_bytes);
    memcpy(&in->forest.head, forest, sizeof in->forest.head);
    if (!fits(&in->forest, (Py_ssize_t)in->forest_bytes) || !lay_out(&in->forest, forest, in->forest_bytes)) exit(3);
    if (fread(in->forest.low, 4, FEATURES, file) != FEATURES || fread(in->forest.high, 4, FEATURES, file) != FEATURES) exit(2);
    size_t knots = HORIZONS * MAX_KNOTS * 2 * sizeof(double);
    if (!read_knots(&in->forest, part(file, knots), (Py_ssize_t)knots)) exit(3);
    in->pairs = part(file, in->windows * PAIR_BYTES);
    in->values = part(file, in->samples * SAMPLE_VALUES * 8);
    in->rows = malloc(in->windows * FEATURES * sizeof(float));
    for (uint64_t i = 0; i < in->windows; i++) {
        struct view view;
        if (!look(&view, window_of(in, i))) exit(3);
        features_of(&view, facts_of(in, i), in->rows + i * FEATURES);
    }
    fclose(file);
}

static double total;

STAGE stage_score(struct input *in, uint64_t i)
{
    double p[HORIZONS];
    if (score(&in->forest, window_of(in, i), facts_of(in, i), p)) total += p[0] + p[4];
}

STAGE stage_features(struct input *in, uint64_t i)
{
    struct view view;
    float x[FEATURES];
    look(&view, window_of(in, i));
    features_of(&view, facts_of(in, i), x);
    total += x[0];
}

STAGE stage_walk(struct input *in, uint64_t i)
{
    uint32_t twice[2 * FEATURES];
    double margins[CLASSES];
    fold_unknown(in->rows + i % in->windows * FEATURES, twice);
    walk(&in->forest, twice, margins);
    total += margins[1];
}

STAGE stage_push(struct input *in, uint64_t i)
{
    static struct window ring;
    const double *v = in->values + i % in->samples * SAMPLE_VALUES;
    total += push(&ring, v, (uint32_t)v[VALUES], v[VALUES + 1]);
}

/* FNV-1a over every feature's bits; NaN is NaN, whatever its other bits are. */
static uint64_t checksum(const struct input *in)
{
    uint64_t sum = 0xCBF29CE484222325u;
    for (uint64_t i = 0; i < in->windows * FEATURES; i++) {
        uint32_t bits;
        memcpy(&bits, &in->rows[i], sizeof bits);
        sum = (sum ^ (isnan(in->rows[i]) ? UINT32_MAX : bits)) * 0x100000001B3u;
    }
    return sum;
}

int main(int argc, char **argv)
{
    static const struct { const char *name; void (*call)(struct input *, uint64_t); } stages[] = {
        {"score", stage_score}, {"features", stage_features}, {"walk", stage_walk}, {"push", stage_push}};
    struct input in = {0};
    if (argc < 4) return 2;
    if (argc > 4) has_avx2 = 0;
    load(argv[1], &in);
    uint64_t times = strtoull(argv[3], NULL, 10);
    for (size_t s = 0; s < sizeof stages / sizeof *stages; s++)
        if (!strcmp(argv[2], stages[s].name) || !strcmp(argv[2], "all"))
            for (uint64_t i = 0; i < times; i++) stages[s].call(&in, i);
    printf("%a %016llx\n", total, (unsigned long long)checksum(&in));
    return 0;
}

/* numbers, push, features and forest walk: behaves exactly like the readable references, in about a microsecond.
 *
 *   numbers   sense.fields.reference_numbers
 *   push      ring.reference_push       features  features.reference     walk  forest.reference_margins
 *
 * Layout constants stand here and in ring.py and forest.py; tests/test_kernel.py compares them. Sums are float64
 * in a stated order (four lanes per stretch between span edges), without contraction or fast-math, so that both sides
 * give the same bits. Native code does one thing and returns plain values; policy stays in Python.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __x86_64__
#include <cpuid.h>
#include <xmmintrin.h>
#endif

/* ---- the window (ring.py) ---- */

enum { CAPACITY = 304, MAX_BLOCKS = CAPACITY - 1, HEADER_BYTES = 4096 };
enum wide { T_S, PSI_SOME, PSI_FULL, REFAULTS, MAJOR_FAULTS, WIDE };
enum narrow { HEADROOM, LEAST_HEADROOM, USED, CHARGED, KERNEL, AVAILABLE, SWAP_FREE, EVICTABLE, LIMIT, LATE, PHASE, NARROW };

struct window {
    char fixed[32];
    _Atomic uint64_t head;      /* closed slot | which << 16 | blocks << 32 */
    double start_s, released_t_s, phase_began_t_s;
    uint64_t samples_total;
    char rest[HEADER_BYTES - 72];
    double wide[WIDE][CAPACITY];
    float narrow[NARROW][CAPACITY];
    uint32_t segment[CAPACITY];
};

/* A sample's numbers in the order of sense/sample.py, without the two words (constraint, phase). */
enum value { V_T_S, V_LIMIT, V_HEADROOM, V_USED, V_CHARGED, V_KERNEL, V_AVAILABLE, V_SWAP_USED, V_SWAP_FREE, V_SWAP_LIMIT,
             V_PSI_SOME, V_PSI_FULL, V_REFAULTS, V_MAJOR_FAULTS, V_LATE, V_EVICTABLE, VALUES };
/* A series has three more rows: what the words and the releases came to. */
enum { V_PHASE = VALUES, V_SEGMENT, V_RELEASED, SERIES_ROWS };

static void write_block(struct window *w, int slot, const double *v, uint32_t segment, double least, double late, double phase)
{
    w->wide[T_S][slot] = v[V_T_S];
    w->wide[PSI_SOME][slot] = v[V_PSI_SOME];
    w->wide[PSI_FULL][slot] = v[V_PSI_FULL];
    w->wide[REFAULTS][slot] = v[V_REFAULTS];
    w->wide[MAJOR_FAULTS][slot] = v[V_MAJOR_FAULTS];
    w->narrow[HEADROOM][slot] = (float)v[V_HEADROOM];
    w->narrow[LEAST_HEADROOM][slot] = (float)least;
    w->narrow[USED][slot] = (float)v[V_USED];
    w->narrow[CHARGED][slot] = (float)v[V_CHARGED];
    w->narrow[KERNEL][slot] = (float)v[V_KERNEL];
    w->narrow[AVAILABLE][slot] = (float)v[V_AVAILABLE];
    w->narrow[SWAP_FREE][slot] = (float)v[V_SWAP_FREE];
    w->narrow[EVICTABLE][slot] = (float)v[V_EVICTABLE];
    w->narrow[LIMIT][slot] = (float)v[V_LIMIT];
    w->narrow[LATE][slot] = (float)late;
    w->narrow[PHASE][slot] = (float)phase;
    w->segment[slot] = segment;
}

static void copy_block(struct window *w, int from, int to)
{
    for (int i = 0; i < WIDE; i++) w->wide[i][to] = w->wide[i][from];
    for (int i = 0; i < NARROW; i++) w->narrow[i][to] = w->narrow[i][from];
    w->segment[to] = w->segment[from];
}

static void publish(struct window *w, int base, int which, uint32_t count)
{
    atomic_store_explicit(&w->head, (uint64_t)base | (uint64_t)which << 16 | (uint64_t)count << 32, memory_order_release);
}

static int push(struct window *w, const double *v, uint32_t segment, double phase)
{
    double t_s = v[V_T_S], least = v[V_HEADROOM], late = v[V_LATE], previous_phase = NAN;
    if (!(t_s >= 0 && t_s < 1e12 && v[V_LIMIT] > 0 && v[V_LIMIT] < 1e30 && fabs(least) < 1e30)) return 0;
    uint64_t head = atomic_load_explicit(&w->head, memory_order_relaxed);
    int base = (int)(head & 0xFFFF) % CAPACITY, which = (int)(head >> 16) & 1, slot, newest = (base + 1 + which) % CAPACITY;
    uint32_t count = (uint32_t)(head >> 32);
    int is_same_second = 0;
    if (count) {
        double last_t_s = w->wide[T_S][newest];
        if (!(t_s > last_t_s)) return 0;
        previous_phase = w->narrow[PHASE][newest];
        is_same_second = floor(t_s) == floor(last_t_s);
    }
    if (is_same_second) {
        if (w->segment[newest] == segment && w->narrow[LEAST_HEADROOM][newest] < least) least = w->narrow[LEAST_HEADROOM][newest];
        if (w->narrow[LATE][newest] > late) late = w->narrow[LATE][newest];
        slot = (base + 2 - which) % CAPACITY;
        which = 1 - which;
    } else {
        if (count && which == 1) {
            copy_block(w, (base + 2) % CAPACITY, (base + 1) % CAPACITY);
            publish(w, base, 0, count);
        }
        slot = (base + 2) % CAPACITY;
        base = (base + 1) % CAPACITY;
        which = 0;
        count = count < MAX_BLOCKS ? count + 1 : MAX_BLOCKS;
    }
    if (!(phase == previous_phase) && !(isnan(phase) && isnan(previous_phase))) w->phase_began_t_s = t_s;
    write_block(w, slot, v, segment, least, late, phase);
    w->samples_total++;
    publish(w, base, which, count);
    return 1;
}

/* ---- features (features.py) ---- */

enum { SPANS = 6, HALF = SPANS, EDGES, FEATURES = 75 };        /* HALF: the later half of the window */
static const double SPAN_S[SPANS] = {5, 10, 30, 60, 120, 300};
static const double FAR_S = 3600.0, SINCE_RELEASE_CAP_S = 300.0, PAGE_BYTES = 4096.0;
enum static_fact { RAM, SWAP, CORES, CACHE, BUFFERS, HEAP, BOUND_KIND, STATICS };

/* Four lanes are 32 bytes: one register of AVX2, two of SSE2 and NEON. Every lane rounds as C does, so the bits are the
 * same whichever is chosen. What is INLINED is compiled once for each. */
typedef double four __attribute__((vector_size(32)));
typedef int64_t four_flags __attribute__((vector_size(32)));
typedef float four_narrow __attribute__((vector_size(16)));
typedef int32_t four_narrow_flags __attribute__((vector_size(16)));
#define INLINED static inline __attribute__((always_inline))

struct sums { four x, xx, y, xy, yy; four_narrow lows, highs; };

/* Over the blocks of each span: x is time and y headroom, both against the newest block. */
struct spans {
    double n[EDGES], x[EDGES], xx[EDGES], y[EDGES], xy[EDGES], yy[EDGES], low[EDGES], high[EDGES];
    int oldest[EDGES];          /* slot of the oldest block in it */
};

struct view {                   /* a window as the features see it */
    const struct window *w;
    int newest, base, blocks;   /* blocks under the constraint that binds now, the newest included */
    double t_s, limit, headroom;
};

INLINED int slot_of(const struct view *view, int back)
{
    if (back == 0) return view->newest;
    int slot = view->base - back + 1;
    return slot < 0 ? slot + CAPACITY : slot;
}

static int look(struct view *view, const struct window *w)
{
    uint64_t head = atomic_load_explicit((_Atomic uint64_t *)&w->head, memory_order_acquire);
    uint32_t count = (uint32_t)(head >> 32);
    if (count == 0) return 0;
    view->w = w;
    view->base = (int)(head & 0xFFFF) % CAPACITY;
    view->newest = (view->base + 1 + (int)(head >> 16 & 1)) % CAPACITY;
    view->t_s = w->wide[T_S][view->newest];
    view->limit = w->narrow[LIMIT][view->newest];
    view->headroom = w->narrow[HEADROOM][view->newest];
    /* Segment numbers never fall, so the first block of this one is found by halving. */
    int inside = 0, outside = count > MAX_BLOCKS ? MAX_BLOCKS : (int)count;
    uint32_t segment = w->segment[view->newest];
    if (w->segment[slot_of(view, outside - 1)] == segment) inside = outside - 1;
    while (outside - inside > 1) {
        int middle = (inside + outside) / 2;
        if (w->segment[slot_of(view, middle)] == segment) inside = middle; else outside = middle;
    }
    /* A release is no fall in demand: nothing looks further back than the last one. */
    if (inside && w->wide[T_S][slot_of(view, inside)] <= w->released_t_s) {
        for (outside = inside, inside = 0; outside - inside > 1;) {
            int middle = (inside + outside) / 2;
            if (w->wide[T_S][slot_of(view, middle)] <= w->released_t_s) outside = middle; else inside = middle;
        }
    }
    view->blocks = inside + 1;
    return 1;
}

INLINED double age_of(const struct view *view, int back) { return view->t_s - view->w->wide[T_S][slot_of(view, back)]; }

/* How many blocks, counted from the newest, are at most span_s old, where not all are. Blocks come about once a second,
 * so the place is guessed from the average and then walked to. */
INLINED int within(const struct view *view, double span_s, int guess, int at_least)
{
    int at = guess < at_least ? at_least : guess > view->blocks - 1 ? view->blocks - 1 : guess;
    while (at > at_least && age_of(view, at - 1) > span_s) at--;
    while (age_of(view, at) <= span_s) at++;
    return at;
}

/* The lesser, the greater of each lane; the second where one is unknown. */
INLINED four_narrow lesser(four_narrow a, four_narrow b)
{
#ifdef __x86_64__
    return _mm_min_ps(a, b);
#else
    four_narrow_flags is_less = a < b;
    return (four_narrow)(((four_narrow_flags)a & is_less) | ((four_narrow_flags)b & ~is_less));
#endif
}

INLINED four_narrow greater(four_narrow a, four_narrow b)
{
#ifdef __x86_64__
    return _mm_max_ps(a, b);
#else
    four_narrow_flags is_more = a > b;
    return (four_narrow)(((four_narrow_flags)a & is_more) | ((four_narrow_flags)b & ~is_more));
#endif
}

INLINED double least_of(four_narrow v)
{
    float a = v[0] < v[1] ? v[0] : v[1], b = v[2] < v[3] ? v[2] : v[3];
    return a < b ? a : b;
}

INLINED double greatest_of(four_narrow v)
{
    float a = v[0] > v[1] ? v[0] : v[1], b = v[2] > v[3] ? v[2] : v[3];
    return a > b ? a : b;
}

INLINED double total_of(const four *v) { return ((*v)[3] + (*v)[2]) + ((*v)[1] + (*v)[0]); }

INLINED void add_four(struct sums *s, const struct view *view, const four *t_s, four_narrow headroom, four_narrow least)
{
    four x = *t_s - view->t_s, y = __builtin_convertvector(headroom, four) - view->headroom;
    s->x += x;
    s->xx += x * x;
    s->y += y;
    s->xy += x * y;
    s->yy += y * y;
    s->lows = lesser(least, s->lows);
    s->highs = greater(headroom, s->highs);
}

/* Add the blocks `from` to `to`, counted from the newest, four at a time; the last lane has the newest of them, as the
 * ring lies in memory. Lows and highs are of headroom itself: rounding keeps the order, so today's is taken off later. */
INLINED void sum_stretch(struct sums *s, const struct view *view, int from, int to)
{
    const double *times = view->w->wide[T_S];
    const float *headrooms = view->w->narrow[HEADROOM], *leasts = view->w->narrow[LEAST_HEADROOM];
    const int newest = view->newest;
    s->x = s->xx = s->y = s->xy = s->yy = (four){0};
    for (int at = from; at < to;) {
        int oldest = view->base - at - 2, fours = (to - at) / 4;        /* the slot of the oldest of the next four */
        if (oldest < -3) oldest += CAPACITY;
        if (fours > oldest / 4 + 1) fours = oldest / 4 + 1;
        if (fours > 0 && oldest >= 0 && (at > 0 || newest == oldest + 3)) {
            const double *t = times + oldest;
            const float *h = headrooms + oldest, *l = leasts + oldest;
            for (const float *end = h - 4 * fours; h != end; t -= 4, h -= 4, l -= 4) {
                four t_s;
                four_narrow headroom, least;
                memcpy(&t_s, t, sizeof t_s);
                memcpy(&headroom, h, sizeof headroom);
                memcpy(&least, l, sizeof least);
                add_four(s, view, &t_s, headroom, least);
            }
            at += 4 * fours;
        } else {    /* the ring's seam or a newest block apart lies within, or fewer are left: the newest adds nothing */
            int a = at + 3 < to ? slot_of(view, at + 3) : newest, b = at + 2 < to ? slot_of(view, at + 2) : newest;
            int c = at + 1 < to ? slot_of(view, at + 1) : newest, d = slot_of(view, at);
            four t_s = {times[a], times[b], times[c], times[d]};
            add_four(s, view, &t_s, (four_narrow){headrooms[a], headrooms[b], headrooms[c], headrooms[d]},
                     (four_narrow){leasts[a], leasts[b], leasts[c], leasts[d]});
            at += 4;
        }
    }
}

INLINED void sum_spans(struct spans *spans, const struct view *view)
{
    const double oldest_age_s = age_of(view, view->blocks - 1), blocks_per_s = view->blocks / oldest_age_s;
    const float here = view->w->narrow[HEADROOM][view->newest];
    double x = 0, xx = 0, y = 0, xy = 0, yy = 0;
    struct sums s;
    s.lows = s.highs = (four_narrow){here, here, here, here};
    const double half_s = 0.5 * oldest_age_s;
    int before_half = 0, done = 0;
    while (before_half < SPANS && SPAN_S[before_half] < half_s) before_half++;
    for (int edge = 0; edge < EDGES; edge++) {
        int i = edge < before_half ? edge : edge == before_half ? HALF : edge - 1;
        double span_s = i == HALF ? half_s : SPAN_S[i];
        int is_all = oldest_age_s <= span_s;
        int to = is_all ? view->blocks : within(view, span_s, (int)(span_s * blocks_per_s), done);
        if (to > done) {
            sum_stretch(&s, view, done, to);
            x += total_of(&s.x);
            xx += total_of(&s.xx);
            y += total_of(&s.y);
            xy += total_of(&s.xy);
            yy += total_of(&s.yy);
            done = to;
        }
        spans->n[i] = to;
        spans->x[i] = x;
        spans->xx[i] = xx;
        spans->y[i] = y;
        spans->xy[i] = xy;
        spans->yy[i] = yy;
        spans->low[i] = least_of(s.lows) - view->headroom;
        spans->high[i] = greatest_of(s.highs) - view->headroom;
        spans->oldest[i] = slot_of(view, to - 1);
    }
}

/* No branch on data from here on: both ways are computed and one is taken. */
INLINED double slope_of(const struct spans *s, int i)
{
    double spread = s->n[i] * s->xx[i] - s->x[i] * s->x[i], slope = (s->n[i] * s->xy[i] - s->x[i] * s->y[i]) / spread;
    return s->n[i] > 1 && spread > 0 ? slope : NAN;
}

INLINED double straight_line_s(double room, double slope)
{
    double seconds = (room > 0 ? room : 0.0) / -slope;
    seconds = seconds > FAR_S ? FAR_S : seconds;
    seconds = slope < 0 ? seconds : FAR_S;
    return isnan(slope) || isnan(room) ? NAN : seconds;
}

INLINED double spread_of(const struct spans *s, int i, double slope)
{
    double mean_y = s->y[i] / s->n[i];
    double variance = (s->yy[i] - mean_y * s->y[i] - slope * (s->xy[i] - s->x[i] * mean_y)) / s->n[i];
    double deviation = sqrt(variance > 0 ? variance : 0.0);
    return isnan(slope) ? NAN : deviation;
}

INLINED double mean_of(const struct spans *s, int i) { return s->n[i] > 1 ? s->y[i] / s->n[i] : NAN; }

INLINED double growth_of(const struct view *view, int signal, int then)
{
    const float *column = view->w->narrow[signal];
    double elapsed_s = view->t_s - view->w->wide[T_S][then];
    double rate = ((double)column[view->newest] - (double)column[then]) / elapsed_s;
    return elapsed_s > 0 ? rate : NAN;
}

/* The four counters' rates since the block `then`; NaN where one fell: it was reset. */
INLINED void rates_of(const struct view *view, int then, double per_limit, float *out)
{
    const double *some = view->w->wide[PSI_SOME], *full = view->w->wide[PSI_FULL];
    const double *refaults = view->w->wide[REFAULTS], *faults = view->w->wide[MAJOR_FAULTS];
    const int now = view->newest;
    const double elapsed_s = view->t_s - view->w->wide[T_S][then];
    four rise = (four){some[now], full[now], refaults[now], faults[now]} - (four){some[then], full[then], refaults[then], faults[then]};
    four rate = rise / elapsed_s * (four){1e-6, 1e-6, PAGE_BYTES, 1.0} * (four){1.0, 1.0, per_limit, 1.0};
    four_flags is_known = (rise >= 0.0) & -(int64_t)(elapsed_s > 0);
    rate = (four)(((four_flags)rate & is_known) | ((four_flags)(four){NAN, NAN, NAN, NAN} & ~is_known));
    four_narrow narrow = __builtin_convertvector(rate, four_narrow);
    memcpy(out, &narrow, sizeof narrow);
}

INLINED double capped(double seconds, double cap_s) { return seconds > cap_s ? cap_s : seconds; }

INLINED void features_in_lanes(const struct view *view, const double *facts, float *out)
{
    const struct window *w = view->w;
    const double per_limit = 1.0 / view->limit;
    const int newest = view->newest;
    struct spans spans;
    double slopes[SPANS], lines_s[SPANS], deviations[SPANS];
    float *f = out;

    *f++ = (float)(view->headroom * per_limit);
    *f++ = (float)((double)w->narrow[USED][newest] * per_limit);
    *f++ = (float)((double)w->narrow[CHARGED][newest] * per_limit);
    *f++ = (float)((double)w->narrow[KERNEL][newest] * per_limit);
    *f++ = (float)((double)w->narrow[AVAILABLE][newest] / facts[RAM]);
    *f++ = (float)((double)w->narrow[SWAP_FREE][newest] * per_limit);
    *f++ = (float)((double)w->narrow[EVICTABLE][newest] * per_limit);

    sum_spans(&spans, view);
    for (int i = 0; i < SPANS; i++) slopes[i] = slope_of(&spans, i);
    for (int i = 0; i < SPANS; i++) lines_s[i] = straight_line_s(view->headroom, slopes[i]);
    for (int i = 0; i < SPANS; i++) deviations[i] = spread_of(&spans, i, slopes[i]) * per_limit;
    for (int i = 0; i < SPANS; i++) {
        *f++ = (float)(slopes[i] * per_limit);
        *f++ = (float)lines_s[i];
        *f++ = (float)deviations[i];
        *f++ = (float)(spans.n[i] > 1 ? spans.high[i] * per_limit : NAN);
        *f++ = (float)(spans.n[i] > 1 ? -spans.low[i] * per_limit : NAN);
    }
    *f++ = (float)((slopes[0] - slopes[2]) * per_limit);
    *f++ = (float)((slopes[1] - slopes[3]) * per_limit);
    *f++ = (float)((slopes[2] - slopes[4]) * per_limit);
    *f++ = (float)((slopes[3] - slopes[5]) * per_limit);

    *f++ = (float)straight_line_s(view->headroom, slope_of(&spans, HALF));

    double last_three = NAN;
    if (view->blocks >= 3) {
        double one = (double)w->narrow[HEADROOM][slot_of(view, 1)] - view->headroom;
        double two = (double)w->narrow[HEADROOM][slot_of(view, 2)] - view->headroom;
        last_three = (one + two) / 3.0;
    }
    *f++ = (float)(last_three * per_limit);
    *f++ = (float)((mean_of(&spans, 1) - mean_of(&spans, 3)) * per_limit);

    for (int i = 1; i < SPANS; i += 2, f += 4) rates_of(view, spans.oldest[i], per_limit, f);
    *f++ = (float)(growth_of(view, USED, spans.oldest[2]) * per_limit);
    *f++ = (float)(growth_of(view, USED, spans.oldest[4]) * per_limit);
    *f++ = (float)(growth_of(view, CHARGED, spans.oldest[2]) * per_limit);
    *f++ = (float)(growth_of(view, CHARGED, spans.oldest[4]) * per_limit);
    *f++ = (float)(growth_of(view, KERNEL, spans.oldest[4]) * per_limit);

    float phase = w->narrow[PHASE][newest];
    *f++ = w->narrow[LATE][newest];
    *f++ = (float)capped(view->t_s - w->released_t_s, SINCE_RELEASE_CAP_S);
    *f++ = phase;
    *f++ = (float)(isnan(phase) ? NAN : capped(view->t_s - w->phase_began_t_s, FAR_S));

    double cache = facts[CACHE], heap = facts[HEAP];
    *f++ = (float)(isnan(facts[RAM]) ? NAN : log2(facts[RAM]));
    *f++ = (float)log2(view->limit);
    *f++ = (float)facts[CORES];
    *f++ = (float)(facts[SWAP] / facts[RAM]);
    *f++ = (float)(cache * per_limit);
    *f++ = (float)(facts[BUFFERS] * per_limit);
    *f++ = (float)(heap * per_limit);
    *f++ = (float)facts[BOUND_KIND];
    double bound = isnan(cache) || heap < cache ? heap : cache;
    double room = bound - (double)w->narrow[USED][newest];
    *f++ = (float)(room * per_limit);
    *f++ = (float)straight_line_s(room, slopes[3]);
}

static int has_avx2;            /* looked up when the kernel is loaded */

static void features_plain(const struct view *view, const double *facts, float *out) { features_in_lanes(view, facts, out); }

#ifdef __x86_64__
__attribute__((target("avx2"))) static void features_avx2(const struct view *view, const double *facts, float *out)
{
    features_in_lanes(view, facts, out);
}

/* By hand: __builtin_cpu_supports of zig's library, which device wheels are built with, knows nothing (0.17). */
__attribute__((constructor)) static void look_at_processor(void)
{
    unsigned a, b, c, d, kept, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return;
    __asm__("xgetbv" : "=a"(kept), "=d"(high) : "c"(0));
    has_avx2 = (kept & 6) == 6 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & bit_AVX2;     /* 6: the system saves them */
}
#else
#define features_avx2 features_plain
#endif

static void features_of(const struct view *view, const double *facts, float *out)
{
    if (has_avx2) features_avx2(view, facts, out);
    else features_plain(view, facts, out);
}

/* ---- the forest (forest.py) ---- */

enum { HORIZONS = 5, CLASSES = HORIZONS + 1, MAX_DEPTH = 10, MAX_TREES = 4096, TOGETHER = 8, MAX_KNOTS = 16 };
enum transform { SOFTMAX, AVERAGE };

struct forest_header {
    char magic[8];
    uint32_t version, byte_order, trees, depth, features, classes, leaf_size, transform;
    double scale;
    char pad[16];
};
struct filed_node { float threshold; uint32_t at; };      /* at = 2 * feature + (unknown goes right) */

typedef struct {
    PyObject_HEAD
    struct forest_header head;
    double base[CLASSES];
    uint32_t *tree_class;         /* [trees], rising: those of a class lie together, in the file's order; 0 where all vote */
    float *leaves;                /* [trees][2^depth][leaf_size], mirrored */
    uint32_t *thresholds;         /* [trees][2^depth - 1], levels mirrored; sortable */
    uint8_t *places;              /* the same; which of `twice` is compared */
    void *storage;
    float low[FEATURES], high[FEATURES];
    int knots[HORIZONS];
    double knot_x[HORIZONS][MAX_KNOTS], knot_y[HORIZONS][MAX_KNOTS];
} Forest;

/* Floats as integers that sort the same way (the well-known flip of the sign), so that one comparison sets the carry and
 * `at + at + carry` is the step: no branch, no float-to-flag detour. -0 counts as 0, as it does between floats. */
static inline uint32_t sortable(float x)
{
    uint32_t bits;
    x += 0.0f;
    memcpy(&bits, &x, sizeof bits);
    return bits ^ ((uint32_t)-(int32_t)(bits >> 31) | 0x80000000u);
}

/* Each feature twice: first all with unknown sent left (below every threshold), then all with it sent right (above). */
static void fold_unknown(const float *x, uint32_t *twice)
{
    for (int i = 0; i < FEATURES; i++) {
        uint32_t known = sortable(x[i]), unknown = x[i] != x[i] ? UINT32_MAX : 0;
        twice[i] = known & ~unknown;
        twice[FEATURES + i] = known | unknown;
    }
}

_Static_assert(2 * FEATURES <= UINT8_MAX + 1, "a place is a byte");

/* x86-64 shifts the carry in, in one instruction; compilers take three. */
static inline size_t step(size_t at, uint32_t x, uint32_t threshold)
{
#ifdef __x86_64__
    __asm__("cmp %2, %1\n\tadc %0, %0" : "+r"(at) : "r"(x), "rm"(threshold) : "cc");
    return at;
#else
    return at + at + (x < threshold);
#endif
}

/* Eight trees are walked together so that their loads overlap. Inlined once per depth: with the depth a constant, all
 * eight trees are addressed from one base. The root is node 1; node `at` has its left child at 2 * at + 1. */
INLINED void walk_depth(const Forest *forest, const uint32_t *twice, double *margins, const int depth)
{
    const size_t inner = ((size_t)1 << depth) - 1, outer = (size_t)1 << depth, leaf_size = forest->head.leaf_size;
    const uint32_t *thresholds = forest->thresholds - 1;
    const uint8_t *places = forest->places - 1;
    const float *leaves = forest->leaves - outer * leaf_size;
    const uint32_t *tree_class = forest->tree_class, *end = tree_class + forest->head.trees;
    for (; tree_class < end; tree_class += TOGETHER) {
        size_t at[TOGETHER] = {1, 1, 1, 1, 1, 1, 1, 1};
        for (int level = 0; level < depth; level++)
            for (int i = 0; i < TOGETHER; i++)
                at[i] = step(at[i], twice[places[i * inner + at[i]]], thresholds[i * inner + at[i]]);
        if (leaf_size != 1)
            for (int i = 0; i < TOGETHER; i++)
                for (int k = 0; k < CLASSES; k++) margins[k] += (double)leaves[(i * outer + at[i]) * CLASSES + k];
        else if (tree_class[0] == tree_class[TOGETHER - 1]) {       /* of one class all: the sum stays in a register */
            double margin = margins[tree_class[0]];
            for (int i = 0; i < TOGETHER; i++) margin += (double)leaves[i * outer + at[i]];
            margins[tree_class[0]] = margin;
        } else
            for (int i = 0; i < TOGETHER; i++) margins[tree_class[i]] += (double)leaves[i * outer + at[i]];
        thresholds += TOGETHER * inner;
        places += TOGETHER * inner;
        leaves += TOGETHER * outer * leaf_size;
    }
}

static void walk(const Forest *forest, const uint32_t *twice, double *margins)
{
    memcpy(margins, forest->base, sizeof forest->base);
    switch (forest->head.depth) {
    case 1: walk_depth(forest, twice, margins, 1); break;
    case 2: walk_depth(forest, twice, margins, 2); break;
    case 3: walk_depth(forest, twice, margins, 3); break;
    case 4: walk_depth(forest, twice, margins, 4); break;
    case 5: walk_depth(forest, twice, margins, 5); break;
    case 6: walk_depth(forest, twice, margins, 6); break;
    case 7: walk_depth(forest, twice, margins, 7); break;
    case 8: walk_depth(forest, twice, margins, 8); break;
    case 9: walk_depth(forest, twice, margins, 9); break;
    default: walk_depth(forest, twice, margins, 10);
    }
}

static void class_probabilities(const Forest *forest, double *p)
{
    uint32_t classes = forest->head.classes;
    double scale = forest->head.scale, sum = 0.0;
    for (uint32_t k = 0; k < classes; k++) p[k] *= scale;
    if (forest->head.transform == SOFTMAX) {
        double top = p[0];
        for (uint32_t k = 1; k < classes; k++) top = p[k] > top ? p[k] : top;
        for (uint32_t k = 0; k < classes; k++) sum += p[k] = exp(p[k] - top);
        for (uint32_t k = 0; k < classes; k++) p[k] /= sum;
    }
}

static double calibrated(const Forest *forest, int horizon, double p)
{
    int n = forest->knots[horizon];
    const double *x = forest->knot_x[horizon], *y = forest->knot_y[horizon];
    if (n == 0) return p;
    if (p <= x[0]) return y[0];
    for (int i = 1; i < n; i++)
        if (p <= x[i]) return y[i - 1] + (y[i] - y[i - 1]) * ((p - x[i - 1]) / (x[i] - x[i - 1]));
    return y[n - 1];
}

/* Classes are: no kill within 300 s, then within 300, 240, 180, 120, 60 s. out: p60, p120 … p300, non-decreasing. */
static void forecast_of(const Forest *forest, const float *x, double *out)
{
    uint32_t twice[2 * FEATURES];
    double p[CLASSES], sum = 0.0, most = 0.0;
    fold_unknown(x, twice);
    walk(forest, twice, p);
    class_probabilities(forest, p);
    for (int i = 0; i < HORIZONS; i++) {
        sum += p[HORIZONS - i];
        double c = calibrated(forest, i, sum);
        most = c > most ? c : most;
        out[i] = most > 1.0 ? 1.0 : most;
    }
}

static int is_familiar(const Forest *forest, const float *x)
{
    int strange = 0;
    for (int i = 0; i < FEATURES; i++) strange |= (x[i] < forest->low[i]) | (x[i] > forest->high[i]);
    return !strange;
}

/* The model speaks from 5 s of window on, and when the last 30 s hold at least three blocks (a cadence of 10 s does). */
static int is_long_enough(const struct view *view)
{
    if (view->blocks < 3) return 0;
    return age_of(view, view->blocks - 1) >= 5.0 && age_of(view, 2) <= 30.0;
}

/* Ask for memory early: the columns that are summed come from it all at once, not line after line. */
static inline void fetch(const void *from, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch((const char *)from + at);
}

static int score(const Forest *forest, const struct window *w, const double *facts, double *out)
{
    struct view view;
    float x[FEATURES];
    fetch(w->wide[T_S], sizeof w->wide[T_S]);
    fetch(w->narrow[HEADROOM], sizeof w->narrow[HEADROOM]);
    fetch(w->narrow[LEAST_HEADROOM], sizeof w->narrow[LEAST_HEADROOM]);
    if (!look(&view, w) || !is_long_enough(&view)) return 0;
    features_of(&view, facts, x);
    if (!is_familiar(forest, x)) return 0;
    forecast_of(forest, x, out);
    return 1;
}

/* ---- buffers in, plain values out ---- */

static int take(PyObject *object, Py_buffer *buffer, Py_ssize_t bytes, int is_writable, const char *what)
{
    if (PyObject_GetBuffer(object, buffer, is_writable ? PyBUF_WRITABLE : PyBUF_SIMPLE) < 0) return 0;
    if (buffer->len == bytes && ((uintptr_t)buffer->buf & 7) == 0) return 1;
    PyErr_Format(PyExc_ValueError, "%s: %zd bytes where %zd, aligned to 8, are needed", what, buffer->len, bytes);
    PyBuffer_Release(buffer);
    return 0;
}

static int needs(Py_ssize_t given, Py_ssize_t least, Py_ssize_t most)
{
    if (given >= least && given <= most) return 1;
    PyErr_Format(PyExc_TypeError, "takes %zd to %zd arguments, not %zd", least, most, given);
    return 0;
}

static PyObject *k_push(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    Py_buffer window;
    double v[VALUES];
    if (!needs(n, 4, 4)) return NULL;
    if (!PyTuple_Check(args[1]) || PyTuple_Size(args[1]) != VALUES + 2)
        return PyErr_Format(PyExc_TypeError, "push takes a Sample");
    for (int i = 0; i < VALUES; i++) {
        PyObject *item = PyTuple_GetItem(args[1], i == 0 ? 0 : i + 1);   /* item 1 is the constraint's name */
        v[i] = PyFloat_AsDouble(item);
        if (v[i] == -1.0 && PyErr_Occurred()) return NULL;
    }
    unsigned long segment = PyLong_AsUnsignedLongMask(args[2]);
    double phase = PyFloat_AsDouble(args[3]);
    if (PyErr_Occurred() || !take(args[0], &window, sizeof(struct window), 1, "window")) return NULL;
    int is_taken = push(window.buf, v, (uint32_t)segment, phase);
    PyBuffer_Release(&window);
    return PyBool_FromLong(is_taken);
}

static PyObject *k_features(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    Py_buffer window, facts, out;
    struct view view;
    if (!needs(n, 3, 3) || !take(args[0], &window, sizeof(struct window), 0, "window")) return NULL;
    int is_done = 0;
    if (take(args[1], &facts, STATICS * sizeof(double), 0, "static facts")) {
        if (take(args[2], &out, FEATURES * sizeof(float), 1, "features")) {
            is_done = look(&view, window.buf);
            if (is_done) features_of(&view, facts.buf, out.buf);
            else PyErr_SetString(PyExc_ValueError, "an empty window has no features");
            PyBuffer_Release(&out);
        }
        PyBuffer_Release(&facts);
    }
    PyBuffer_Release(&window);
    if (!is_done) return NULL;
    Py_RETURN_NONE;
}

/* Takes hold of the tuple, which nobody else holds; NULL where it could not be filled. */
static PyObject *filled(PyObject *tuple, const double *p)
{
    for (int i = 0; tuple && i < HORIZONS; i++) {
        PyObject *item = PyFloat_FromDouble(p[i]);
        if (!item || PyTuple_SetItem(tuple, i, item) < 0) { Py_DECREF(tuple); return NULL; }
    }
    return tuple;
}

static PyObject *forest_score(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    Py_buffer window, facts;
    double p[HORIZONS];
    if (!needs(n, 2, 2) || !take(args[0], &window, sizeof(struct window), 0, "window")) return NULL;
    int is_scored = -1;
    if (take(args[1], &facts, STATICS * sizeof(double), 0, "static facts")) {
        is_scored = score((Forest *)self, window.buf, facts.buf, p);
        PyBuffer_Release(&facts);
    }
    PyBuffer_Release(&window);
    if (is_scored < 0) return NULL;
    if (!is_scored) Py_RETURN_NONE;
    return filled(PyTuple_New(HORIZONS), p);
}

static PyObject *forest_margins(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    Forest *forest = (Forest *)self;
    Py_buffer rows, out;
    uint32_t features = forest->head.features, classes = forest->head.classes;
    if (!needs(n, 2, 2) || PyObject_GetBuffer(args[0], &rows, PyBUF_SIMPLE) < 0) return NULL;
    Py_ssize_t count = rows.len / (Py_ssize_t)(features * sizeof(float));
    int is_done = take(args[1], &out, count * (Py_ssize_t)(classes * sizeof(double)), 1, "margins");
    if (is_done) {
        Py_BEGIN_ALLOW_THREADS
        uint32_t twice[2 * FEATURES];
        for (Py_ssize_t i = 0; i < count; i++) {
            fold_unknown((float *)rows.buf + i * features, twice);
            walk(forest, twice, (double *)out.buf + i * classes);
        }
        Py_END_ALLOW_THREADS
        PyBuffer_Release(&out);
    }
    PyBuffer_Release(&rows);
    if (!is_done) return NULL;
    Py_RETURN_NONE;
}

/* score_batch(windows, facts, out): N windows in one call; a row of NaN where the model abstains. */
static PyObject *forest_score_batch(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (!needs(n, 3, 3)) return NULL;
    Py_ssize_t count = PySequence_Size(args[0]), taken = 0;
    if (count < 0 || PySequence_Size(args[1]) != count)
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "as many facts as windows are needed");
    Py_buffer out, *held = calloc((size_t)count * 2 + 1, sizeof(Py_buffer));
    if (!held) return PyErr_NoMemory();
    int is_good = take(args[2], &out, count * HORIZONS * (Py_ssize_t)sizeof(double), 1, "forecasts"), has_out = is_good;
    for (Py_ssize_t i = 0; is_good && i < 2 * count; i++) {
        PyObject *item = PySequence_GetItem(args[i % 2], i / 2);
        Py_ssize_t bytes = i % 2 ? (Py_ssize_t)(STATICS * sizeof(double)) : (Py_ssize_t)sizeof(struct window);
        is_good = item && take(item, &held[i], bytes, 0, i % 2 ? "static facts" : "window");
        Py_XDECREF(item);
        taken += is_good;
    }
    if (is_good) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < count; i++) {
            double *row = (double *)out.buf + i * HORIZONS;
            if (!score((Forest *)self, held[2 * i].buf, held[2 * i + 1].buf, row))
                for (int k = 0; k < HORIZONS; k++) row[k] = NAN;
        }
        Py_END_ALLOW_THREADS
    }
    for (Py_ssize_t i = 0; i < taken; i++) PyBuffer_Release(&held[i]);
    if (has_out) PyBuffer_Release(&out);
    free(held);
    if (!is_good) return NULL;
    Py_RETURN_NONE;
}

/* Features, or forecasts, at every sample of one run; NaN where there are none. rows is float64[SERIES_ROWS][n]. */
static void series(const Forest *forest, const double *rows, Py_ssize_t n, const double *facts, void *out, struct window *w,
                   Py_ssize_t *refused)
{
    struct view view;
    for (Py_ssize_t i = 0; i < n; i++) {
        double v[VALUES];
        for (int k = 0; k < VALUES; k++) v[k] = rows[k * n + i];
        w->released_t_s = rows[V_RELEASED * n + i];
        int is_there = push(w, v, (uint32_t)rows[V_SEGMENT * n + i], rows[V_PHASE * n + i]);
        *refused += !is_there;
        if (forest) {
            double *row = (double *)out + i * HORIZONS;
            if (!is_there || !score(forest, w, facts, row)) for (int k = 0; k < HORIZONS; k++) row[k] = NAN;
        } else {
            float *row = (float *)out + i * FEATURES;
            if (is_there && look(&view, w)) features_of(&view, facts, row);
            else for (int k = 0; k < FEATURES; k++) row[k] = NAN;
        }
    }
}

/* ---- the Forest type ---- */

static int fits(Forest *forest, Py_ssize_t bytes)
{
    const struct forest_header *h = &forest->head;
    if (memcmp(h->magic, "OOMGFOR1", 8) || h->version != 1 || h->byte_order != 0x01020304) return 0;
    if (h->trees < 1 || h->trees > MAX_TREES || h->trees % TOGETHER || h->depth < 1 || h->depth > MAX_DEPTH) return 0;
    if (h->features != FEATURES || h->classes != HORIZONS + 1) return 0;
    if ((h->leaf_size != 1 && h->leaf_size != h->classes) || h->transform > AVERAGE || !isfinite(h->scale)) return 0;
    size_t inner = ((size_t)1 << h->depth) - 1;
    size_t want = sizeof *h + h->classes * 8 + h->trees * 4 + h->trees * inner * 8 + h->trees * (inner + 1) * h->leaf_size * 4;
    return (size_t)bytes == want;
}

static int is_bounded(const struct forest_header *h, const double *base, const uint32_t *tree_class, const struct filed_node *nodes,
                      const float *leaves)
{
    size_t inner = ((size_t)1 << h->depth) - 1;
    for (uint32_t k = 0; k < h->classes; k++) if (!isfinite(base[k])) return 0;
    for (uint32_t i = 0; i < h->trees; i++) if (tree_class[i] >= h->classes) return 0;
    for (size_t i = 0; i < h->trees * inner; i++) if (nodes[i].at >= 2 * h->features || isnan(nodes[i].threshold)) return 0;
    for (size_t i = 0; i < h->trees * (inner + 1) * h->leaf_size; i++) if (!isfinite(leaves[i])) return 0;
    return 1;
}

/* Lay the trees out as they are walked. `x < threshold` becomes the lowest bit of the place, so left comes second. */
static int lay_out(Forest *forest, const char *data, size_t bytes)
{
    const struct forest_header *h = &forest->head;
    size_t inner = ((size_t)1 << h->depth) - 1, outer = inner + 1;
    if (!(forest->storage = malloc(bytes))) return 0;
    const double *base = (const double *)(data + sizeof *h);
    const uint32_t *tree_class = (const uint32_t *)(base + h->classes);
    const struct filed_node *nodes = (const struct filed_node *)(tree_class + h->trees);
    const float *leaves = (const float *)(nodes + h->trees * inner);
    if (!is_bounded(h, base, tree_class, nodes, leaves)) return 0;
    memcpy(forest->base, base, sizeof forest->base);
    forest->tree_class = forest->storage;
    forest->leaves = (float *)(forest->tree_class + h->trees);
    forest->thresholds = (uint32_t *)(forest->leaves + h->trees * outer * h->leaf_size);
    forest->places = (uint8_t *)(forest->thresholds + h->trees * inner);
    uint32_t next[CLASSES + 1] = {0};       /* where the next tree of each class goes */
    const int has_classes = h->leaf_size == 1;
    for (size_t from = 0; from < h->trees; from++) next[(has_classes ? tree_class[from] : 0) + 1]++;
    for (int k = 1; k < CLASSES; k++) next[k] += next[k - 1];
    for (size_t from = 0; from < h->trees; from++) {
        const uint32_t its_class = has_classes ? tree_class[from] : 0;
        const size_t tree = next[its_class]++;
        forest->tree_class[tree] = its_class;
        for (size_t first = 0, width = 1; first < inner; first += width, width *= 2)
            for (size_t i = 0; i < width; i++) {
                const struct filed_node *node = &nodes[from * inner + first + i];
                const size_t to = tree * inner + first + width - 1 - i;
                forest->thresholds[to] = sortable(node->threshold);
                forest->places[to] = (uint8_t)(node->at / 2 + node->at % 2 * FEATURES);
            }
        for (size_t i = 0; i < outer; i++)
            memcpy(&forest->leaves[(tree * outer + outer - 1 - i) * h->leaf_size], &leaves[(from * outer + i) * h->leaf_size],
                   h->leaf_size * sizeof(float));
    }
    return 1;
}

static int read_knots(Forest *forest, const double *pairs, Py_ssize_t bytes)
{
    /* [horizon][MAX_KNOTS][x, y], x rising, unused knots NaN */
    if (bytes != HORIZONS * MAX_KNOTS * 2 * (Py_ssize_t)sizeof(double)) return 0;
    for (int h = 0; h < HORIZONS; h++)
        for (int i = 0; i < MAX_KNOTS; i++) {
            double x = pairs[(h * MAX_KNOTS + i) * 2], y = pairs[(h * MAX_KNOTS + i) * 2 + 1];
            if (isnan(x)) break;
            if (!(x >= 0 && x <= 1 && y >= 0 && y <= 1)) return 0;
            if (i && !(x > forest->knot_x[h][i - 1] && y >= forest->knot_y[h][i - 1])) return 0;
            forest->knot_x[h][i] = x;
            forest->knot_y[h][i] = y;
            forest->knots[h] = i + 1;
        }
    return 1;
}

static PyObject *forest_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)kwargs;
    Py_buffer data, low, high, knots;
    if (!PyArg_ParseTuple(args, "y*y*y*y*", &data, &low, &high, &knots)) return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Forest *forest = (Forest *)allocate(type, 0);
    const char *problem = NULL;
    if (forest && (size_t)data.len >= sizeof forest->head) {
        memcpy(&forest->head, data.buf, sizeof forest->head);
        if (!fits(forest, data.len)) problem = "the forest's header does not fit this version or its size";
        else if (low.len != FEATURES * 4 || high.len != FEATURES * 4) problem = "ranges of another feature table";
        else if (!read_knots(forest, knots.buf, knots.len)) problem = "calibration knots are not monotone within 0..1";
        else if ((uintptr_t)data.buf & 7) problem = "the forest's bytes are not aligned to 8";
        else if (!lay_out(forest, data.buf, (size_t)data.len)) problem = "an index or a number of the forest is out of bounds";
        else {
            memcpy(forest->low, low.buf, (size_t)low.len);
            memcpy(forest->high, high.buf, (size_t)high.len);
        }
    } else if (forest) problem = "shorter than a forest's header";
    PyBuffer_Release(&data); PyBuffer_Release(&low); PyBuffer_Release(&high); PyBuffer_Release(&knots);
    if (problem) {
        PyErr_SetString(PyExc_ValueError, problem);
        Py_DECREF(forest);
        return NULL;
    }
    return (PyObject *)forest;
}

static void forest_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    free(((Forest *)self)->storage);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

/* A forest with one window and its facts at hand, so that a score takes hold of nothing. */
typedef struct {
    PyObject_HEAD
    PyObject *forest, *type, *last;
    allocfunc allocate;         /* a `type`, which is a tuple of five fields */
    Py_buffer window, facts;
} Bound;

static PyObject *bound_type;    /* set once at import; one interpreter */

static PyObject *forest_bind(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (!needs(n, 3, 3)) return NULL;
    if (!PyType_Check(args[2]) || !PyType_IsSubtype((PyTypeObject *)args[2], &PyTuple_Type))
        return PyErr_Format(PyExc_TypeError, "bind takes a tuple type");
    allocfunc allocate = (allocfunc)PyType_GetSlot((PyTypeObject *)bound_type, Py_tp_alloc);
    Bound *bound = (Bound *)allocate((PyTypeObject *)bound_type, 0);
    if (!bound) return NULL;
    bound->forest = Py_NewRef(self);
    bound->type = Py_NewRef(args[2]);
    bound->allocate = (allocfunc)PyType_GetSlot((PyTypeObject *)args[2], Py_tp_alloc);
    if (!take(args[0], &bound->window, sizeof(struct window), 0, "window")) { bound->window.obj = NULL; Py_DECREF(bound); return NULL; }
    if (!take(args[1], &bound->facts, STATICS * sizeof(double), 0, "static facts")) { bound->facts.obj = NULL; Py_DECREF(bound); return NULL; }
    return (PyObject *)bound;
}

static PyObject *bound_score(PyObject *self, PyObject *unused)
{
    Bound *bound = (Bound *)self;
    double p[HORIZONS];
    (void)unused;
    if (!bound->window.obj) return PyErr_Format(PyExc_ValueError, "score after release");
    if (!score((Forest *)bound->forest, bound->window.buf, bound->facts.buf, p)) Py_RETURN_NONE;
    if (!bound->last || Py_REFCNT(bound->last) != 1) {      /* the last one is used again where nobody kept it, as zip does */
        PyObject *kept = bound->last;
        bound->last = bound->allocate((PyTypeObject *)bound->type, HORIZONS);
        Py_XDECREF(kept);
    }
    bound->last = filled(bound->last, p);
    return Py_XNewRef(bound->last);
}

static PyObject *bound_release(PyObject *self, PyObject *unused)
{
    Bound *bound = (Bound *)self;
    (void)unused;
    PyBuffer_Release(&bound->window);       /* harmless when released already */
    PyBuffer_Release(&bound->facts);
    Py_RETURN_NONE;
}

static void bound_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyBuffer_Release(&((Bound *)self)->window);
    PyBuffer_Release(&((Bound *)self)->facts);
    Py_XDECREF(((Bound *)self)->forest);
    Py_XDECREF(((Bound *)self)->type);
    Py_XDECREF(((Bound *)self)->last);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef bound_methods[] = {
    {"score", bound_score, METH_NOARGS, "score() -> forecast or None"},
    {"release", bound_release, METH_NOARGS, "let the window go"},
    {NULL, NULL, 0, NULL}};
static PyType_Slot bound_slots[] = {{Py_tp_dealloc, bound_dealloc}, {Py_tp_methods, bound_methods}, {0, NULL}};
static PyType_Spec bound_spec = {"oomguard._kernel.Bound", sizeof(Bound), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, bound_slots};

static PyMethodDef forest_methods[] = {
    {"bind", (PyCFunction)(void (*)(void))forest_bind, METH_FASTCALL, "bind(window, facts, forecast_type) -> Bound"},
    {"score", (PyCFunction)(void (*)(void))forest_score, METH_FASTCALL, "score(window, facts) -> (p60, p120, p180, p240, p300) or None"},
    {"score_batch", (PyCFunction)(void (*)(void))forest_score_batch, METH_FASTCALL, "score_batch(windows, facts, out)"},
    {"margins", (PyCFunction)(void (*)(void))forest_margins, METH_FASTCALL, "margins(rows float32[n][F], out float64[n][K])"},
    {NULL, NULL, 0, NULL}};
static PyType_Slot forest_slots[] = {
    {Py_tp_new, forest_new}, {Py_tp_dealloc, forest_dealloc}, {Py_tp_methods, forest_methods}, {0, NULL}};
static PyType_Spec forest_spec = {"oomguard._kernel.Forest", sizeof(Forest), 0, Py_TPFLAGS_DEFAULT, forest_slots};

static PyObject *forest_type;   /* set once at import; one interpreter */

static PyObject *k_series(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    Py_buffer rows, facts, out;
    if (!needs(n, 3, 4)) return NULL;
    const Forest *forest = n == 4 && args[3] != Py_None ? (Forest *)args[3] : NULL;
    if (forest && !PyObject_TypeCheck(args[3], (PyTypeObject *)forest_type))
        return PyErr_Format(PyExc_TypeError, "series takes a Forest");
    if (PyObject_GetBuffer(args[0], &rows, PyBUF_SIMPLE) < 0) return NULL;
    Py_ssize_t samples = rows.len / (Py_ssize_t)(SERIES_ROWS * sizeof(double)), refused = 0;
    Py_ssize_t row_bytes = forest ? HORIZONS * (Py_ssize_t)sizeof(double) : FEATURES * (Py_ssize_t)sizeof(float);
    int is_done = 0;
    if (rows.len % (Py_ssize_t)(SERIES_ROWS * sizeof(double))) PyErr_SetString(PyExc_ValueError, "rows: not float64[19][n]");
    else if (take(args[1], &facts, STATICS * sizeof(double), 0, "static facts")) {
        if (take(args[2], &out, samples * row_bytes, 1, "out")) {
            struct window *w = calloc(1, sizeof *w);
            if (w) {
                w->released_t_s = w->phase_began_t_s = NAN;
                Py_BEGIN_ALLOW_THREADS
                series(forest, rows.buf, samples, facts.buf, out.buf, w, &refused);
                Py_END_ALLOW_THREADS
                free(w);
                is_done = 1;
            } else PyErr_NoMemory();
            PyBuffer_Release(&out);
        }
        PyBuffer_Release(&facts);
    }
    PyBuffer_Release(&rows);
    return is_done ? PyLong_FromSsize_t(refused) : NULL;
}

/* ---- numbers of the kernel's tables (sense/fields.py) ---- */

enum { TABLE_BYTES = 16384, MAX_LABELS = 24, MAX_DIGITS = 19 };     /* so many digits fit in 64 bits */

struct part { const char *text; Py_ssize_t bytes; };
struct label { struct part name; double number; int is_found; };

static int part_of(PyObject *object, struct part *part)
{
    char *text;
    if (PyBytes_AsStringAndSize(object, &text, &part->bytes) < 0) return 0;
    part->text = text;
    return 1;
}

/* The first word between both, where it is a number; NaN where it is not. */
static double number_at(const char *at, const char *stop)
{
    while (at < stop && (*at == ' ' || *at == '\t')) at++;
    const char *first = at;
    uint64_t number = 0;
    for (; at < stop && *at >= '0' && *at <= '9'; at++) number = number * 10 + (uint64_t)(*at - '0');
    return at > first && at - first <= MAX_DIGITS && (at == stop || *at == ' ') ? (double)number : NAN;
}

static void find_labels(const char *line, const char *end, struct label *labels, Py_ssize_t count, struct part mark)
{
    Py_ssize_t left = count;
    for (const char *stop; left && (stop = memchr(line, '\n', (size_t)(end - line))); line = stop + 1)
        for (struct label *label = labels; label < labels + count; label++) {
            Py_ssize_t bytes = label->name.bytes;       /* labels end in a separator, so their last byte tells most lines apart */
            if (label->is_found || stop - line < bytes || (bytes && line[bytes - 1] != label->name.text[bytes - 1])) continue;
            if (memcmp(line, label->name.text, (size_t)bytes)) continue;
            const char *at = line + bytes;
            while (stop - at >= mark.bytes && memcmp(at, mark.text, (size_t)mark.bytes)) at++;
            label->number = stop - at >= mark.bytes ? number_at(at + mark.bytes, stop) : NAN;
            label->is_found = 1;
            left--;
        }
}

static PyObject *k_numbers(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    char text[TABLE_BYTES];
    struct label labels[MAX_LABELS];
    struct part mark = {"", 0};
    if (!needs(n, 2, 3)) return NULL;
    long fd = PyLong_AsLong(args[0]);
    if (fd == -1 && PyErr_Occurred()) return NULL;
    Py_ssize_t count = PyTuple_Check(args[1]) ? PyTuple_Size(args[1]) : 0;
    if (count < 1 || count > MAX_LABELS || fd != (int)fd) return PyErr_Format(PyExc_ValueError, "numbers takes a descriptor and 1 to %d labels", MAX_LABELS);
    if (n == 3 && !part_of(args[2], &mark)) return NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        labels[i] = (struct label){.number = NAN};
        if (!part_of(PyTuple_GetItem(args[1], i), &labels[i].name)) return NULL;
    }
    ssize_t size;
    Py_BEGIN_ALLOW_THREADS
    do size = pread((int)fd, text, sizeof text, 0); while (size < 0 && errno == EINTR);
    if (size > 0) find_labels(text, text + size, labels, count, mark);
    Py_END_ALLOW_THREADS
    if (size < 0) return PyErr_SetFromErrno(PyExc_OSError);
    PyObject *numbers = PyTuple_New(count);
    for (Py_ssize_t i = 0; numbers && i < count; i++) {
        PyObject *number = PyFloat_FromDouble(labels[i].number);
        if (!number || PyTuple_SetItem(numbers, i, number) < 0) { Py_DECREF(numbers); return NULL; }
    }
    return numbers;
}

static PyMethodDef methods[] = {
    {"numbers", (PyCFunction)(void (*)(void))k_numbers, METH_FASTCALL, "numbers(fd, labels, mark=b'') -> floats"},
    {"push", (PyCFunction)(void (*)(void))k_push, METH_FASTCALL, "push(window, sample, segment, phase_id) -> taken"},
    {"features", (PyCFunction)(void (*)(void))k_features, METH_FASTCALL, "features(window, facts, out)"},
    {"series", (PyCFunction)(void (*)(void))k_series, METH_FASTCALL, "series(rows, facts, out, forest=None) -> refused"},
    {NULL, NULL, 0, NULL}};

static int add_all(PyObject *module)
{
    forest_type = PyType_FromSpec(&forest_spec);
    bound_type = PyType_FromSpec(&bound_spec);
    if (!forest_type || !bound_type || PyModule_AddObjectRef(module, "Forest", forest_type) < 0) return -1;
    if (PyModule_AddIntConstant(module, "WINDOW_BYTES", sizeof(struct window)) < 0) return -1;
    if (PyModule_AddIntConstant(module, "FEATURES", FEATURES) < 0) return -1;
    return PyModule_AddIntConstant(module, "SERIES_ROWS", SERIES_ROWS);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, add_all}, {0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "oomguard._kernel", "numbers, push, features and forest walk", 0, methods, slots, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&definition); }

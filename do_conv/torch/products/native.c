/* W D' and its gradients, in loops; compiled once with REAL as float, and once as double.

   Arrays are contiguous: W and its gradient are `(G, rows, channels, slots)`, D' and its gradient
   `(G, channels, slots, area)`, W' and its gradient `(G, rows, channels, area)`. Rows are output
   channels, channels are input channels, both of a group; slots are D_mul, area is |K|.

   Threads share out the channels, so that a number is summed by one thread, in an order that does
   not depend on how many there are. A few rows are taken at a time, for they lie far apart: what is
   read of them is used for all there is to do before it leaves the cache. */

#include <stdint.h>

#if defined(__x86_64__)
#define FOR_AVX2 __attribute__((target("avx2,fma")))
#define HAS_AVX2 (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#else
#define FOR_AVX2
#define HAS_AVX2 0
#endif
#define INLINE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("GCC unroll 8")

enum {
    LANES = 32 / sizeof(REAL),
    ROWS = 4,        /* at a time, with two vectors of each: their sums stay in registers */
    SHARE = 32,      /* channels that a thread takes at a time, at most */
    FEWEST = 1 << 20 /* products, below which a second thread takes longer to wake */
};

typedef REAL vector __attribute__((vector_size(32), aligned(sizeof(REAL)), may_alias));

typedef struct {
    int64_t groups, rows, channels, slots, area;
    int is_added; /* W' has W added: D_mul = |K| */
} Sizes;

INLINE vector load(const REAL *from) { return *(const vector *)from; }
INLINE void store(REAL *to, vector what) { *(vector *)to = what; }
INLINE int64_t least(int64_t one, int64_t other) { return one < other ? one : other; }

/* `count` rows of one channel's `kernel (rows, inner) x matrix (inner, outer)`, and the kernel if
   that is added: LANES columns from `first` on, and LANES from `second` on. */
INLINE void multiply_lanes(const REAL *kernel, int64_t kernel_step, const REAL *matrix, REAL *written,
                           int64_t step, int64_t count, int64_t inner, int64_t outer, int64_t first, int64_t second,
                           int is_added) {
    vector sums[ROWS][2];
    UNROLLED for (int64_t row = 0; row < count; row++) sums[row][0] = sums[row][1] = (vector){0};
    for (int64_t i = 0; i < inner; i++) {
        vector left = load(matrix + i * outer + first), right = load(matrix + i * outer + second);
        UNROLLED for (int64_t row = 0; row < count; row++) {
            REAL one = kernel[row * kernel_step + i];
            sums[row][0] += one * left;
            sums[row][1] += one * right;
        }
    }
    UNROLLED for (int64_t row = 0; row < count; row++) {
        if (is_added) {
            sums[row][0] += load(kernel + row * kernel_step + first);
            sums[row][1] += load(kernel + row * kernel_step + second);
        }
        store(written + row * step + first, sums[row][0]);
        store(written + row * step + second, sums[row][1]);
    }
}

/* All columns. The last vectors are moved back to end with the row: columns that two of them have
   are computed twice, with the same result. */
INLINE void multiply(const REAL *kernel, int64_t kernel_step, const REAL *matrix, REAL *written,
                     int64_t step, int64_t count, int64_t inner, int64_t outer, int is_added) {
    for (int64_t column = 0; outer >= LANES && column < outer; column += 2 * LANES) {
        int64_t first = least(column, outer - LANES), second = least(first + LANES, outer - LANES);
        multiply_lanes(kernel, kernel_step, matrix, written, step, count, inner, outer, first,
                       second, is_added);
    }
    for (int64_t row = 0; outer < LANES && row < count; row++)
        for (int64_t column = 0; column < outer; column++) {
            REAL sum = 0;
            for (int64_t i = 0; i < inner; i++)
                sum += kernel[row * kernel_step + i] * matrix[i * outer + column];
            if (is_added) sum += kernel[row * kernel_step + column];
            written[row * step + column] = sum;
        }
}

/* Adds `left (count, lines).T x right (count, LANES)` to as many lines of a matrix. */
INLINE void correlate_lanes(const REAL *left, int64_t left_step, const REAL *right, int64_t right_step,
                            REAL *matrix, int64_t step, int64_t count, int64_t lines) {
    vector rights[ROWS];
    UNROLLED for (int64_t row = 0; row < count; row++) rights[row] = load(right + row * right_step);
    for (int64_t line = 0; line < lines; line++) {
        vector sum = load(matrix + line * step);
        UNROLLED for (int64_t row = 0; row < count; row++)
            sum += left[row * left_step + line] * rights[row];
        store(matrix + line * step, sum);
    }
}

/* The same for one column: `left (count, lines).T x right (count)`. */
INLINE void correlate_column(const REAL *left, int64_t left_step, const REAL *right, int64_t right_step,
                             REAL *matrix, int64_t step, int64_t count, int64_t lines) {
    int64_t line = 0;
    for (; line + LANES <= lines; line += LANES) {
        vector sums = {0};
        UNROLLED for (int64_t row = 0; row < count; row++)
            sums += load(left + row * left_step + line) * right[row * right_step];
        UNROLLED for (int64_t lane = 0; lane < LANES; lane++)
            matrix[(line + lane) * step] += sums[lane];
    }
    for (; line < lines; line++) {
        REAL sum = 0;
        UNROLLED for (int64_t row = 0; row < count; row++)
            sum += left[row * left_step + line] * right[row * right_step];
        matrix[line * step] += sum;
    }
}

/* Adds one channel's `kernel (count, slots).T x grad (count, area)` to its matrix. */
INLINE void correlate(const REAL *kernel, int64_t kernel_step, const REAL *grad, int64_t grad_step,
                      REAL *matrix, int64_t count, int64_t slots, int64_t area) {
    int64_t column = 0;
    for (; column + LANES <= area; column += LANES)
        correlate_lanes(kernel, kernel_step, grad + column, grad_step, matrix + column, area, count,
                        slots);
    for (; column < area; column++) /* left over: one, of 3 x 3, 5 x 5 and 7 x 7 */
        correlate_column(kernel, kernel_step, grad + column, grad_step, matrix + column, area,
                         count, slots);
}

INLINE void compose_rows(const REAL *weight, const REAL *delta, REAL *composed, Sizes n,
                         int64_t channels, int64_t count) {
    for (int64_t channel = 0; channel < channels; channel++)
        multiply(weight + channel * n.slots, n.channels * n.slots,
                 delta + channel * n.slots * n.area, composed + channel * n.area,
                 n.channels * n.area, count, n.slots, n.area, n.is_added);
}

INLINE void compose_channels(const REAL *weight, const REAL *delta, REAL *composed, Sizes n,
                             int64_t channels) {
    for (int64_t row = 0, count; row < n.rows; row += count) {
        const REAL *weights = weight + row * n.channels * n.slots;
        REAL *written = composed + row * n.channels * n.area;
        count = row + ROWS <= n.rows ? ROWS : 1;
        if (count == ROWS) /* a constant, for the compiler */
            compose_rows(weights, delta, written, n, channels, ROWS);
        else
            compose_rows(weights, delta, written, n, channels, 1);
    }
}

/* Either gradient may be NULL, which is not asked for. */
INLINE void differentiate_rows(const REAL *weight, const REAL *transposed, const REAL *grad,
                               REAL *grad_weight, REAL *grad_delta, Sizes n, int64_t channels,
                               int64_t count) {
    int64_t weight_step = n.channels * n.slots, grad_step = n.channels * n.area;
    for (int64_t channel = 0; channel < channels; channel++) {
        int64_t at = channel * n.slots, matrix = channel * n.slots * n.area;
        const REAL *grads = grad + channel * n.area;
        if (grad_weight)
            multiply(grads, grad_step, transposed + matrix, grad_weight + at, weight_step, count,
                     n.area, n.slots, n.is_added);
        if (grad_delta)
            correlate(weight + at, weight_step, grads, grad_step, grad_delta + matrix, count,
                      n.slots, n.area);
    }
}

INLINE void prepare_matrices(const REAL *delta, REAL *transposed, REAL *grad_delta, Sizes n,
                             int64_t channels) {
    int64_t numbers = n.slots * n.area;
    for (int64_t channel = 0; channel < channels; channel++)
        for (int64_t slot = 0; slot < n.slots; slot++)
            for (int64_t position = 0; position < n.area; position++)
                transposed[channel * numbers + position * n.slots + slot] =
                    delta[channel * numbers + slot * n.area + position];
    for (int64_t i = 0; grad_delta && i < channels * numbers; i++) grad_delta[i] = 0;
}

INLINE void differentiate_channels(const REAL *weight, const REAL *delta, const REAL *grad,
                                   REAL *transposed, REAL *grad_weight, REAL *grad_delta, Sizes n,
                                   int64_t channels) {
    prepare_matrices(delta, transposed, grad_delta, n, channels);
    for (int64_t row = 0, count; row < n.rows; row += count) {
        const REAL *weights = weight + row * n.channels * n.slots;
        const REAL *grads = grad + row * n.channels * n.area;
        REAL *written = grad_weight ? grad_weight + row * n.channels * n.slots : 0;
        count = row + ROWS <= n.rows ? ROWS : 1;
        if (count == ROWS)
            differentiate_rows(weights, transposed, grads, written, grad_delta, n, channels, ROWS);
        else
            differentiate_rows(weights, transposed, grads, written, grad_delta, n, channels, 1);
    }
}

/* The compiler unrolls what it knows the sizes of. */
INLINE Sizes of_3_x_3(Sizes n) {
    n.slots = n.area = 9;
    return n;
}

INLINE int is_3_x_3(Sizes n) { return n.slots == 9 && n.area == 9; }

/* Where a share begins in W, W' and D', and how many channels it has. */
typedef struct {
    int64_t weight, composed, delta, channels;
} Share;

INLINE int64_t largest_share(Sizes n, int threads) {
    return least(SHARE, (n.groups * n.channels + threads - 1) / threads);
}

INLINE int64_t shares_of_a_group(Sizes n, int threads) {
    return (n.channels + largest_share(n, threads) - 1) / largest_share(n, threads);
}

INLINE Share share(Sizes n, int threads, int64_t index) {
    int64_t in_a_group = shares_of_a_group(n, threads), largest = largest_share(n, threads);
    int64_t group = index / in_a_group, channel = index % in_a_group * largest;
    int64_t kernel = group * n.rows * n.channels + channel, matrix = group * n.channels + channel;
    return (Share){kernel * n.slots, kernel * n.area, matrix * n.slots * n.area,
                   least(n.channels - channel, largest)};
}

INLINE int is_large(Sizes n) {
    return n.groups * n.rows * n.channels * n.slots * n.area >= FEWEST;
}

INLINE void compose_share(const REAL *weight, const REAL *delta, REAL *composed, Sizes n,
                          Share at) {
    weight += at.weight, delta += at.delta, composed += at.composed;
    if (is_3_x_3(n))
        compose_channels(weight, delta, composed, of_3_x_3(n), at.channels);
    else
        compose_channels(weight, delta, composed, n, at.channels);
}

INLINE void differentiate_share(const REAL *weight, const REAL *delta, const REAL *grad,
                                REAL *transposed, REAL *grad_weight, REAL *grad_delta, Sizes n,
                                Share at) {
    weight += at.weight, delta += at.delta, grad += at.composed, transposed += at.delta;
    if (grad_weight) grad_weight += at.weight;
    if (grad_delta) grad_delta += at.delta;
    if (is_3_x_3(n))
        differentiate_channels(weight, delta, grad, transposed, grad_weight, grad_delta,
                               of_3_x_3(n), at.channels);
    else
        differentiate_channels(weight, delta, grad, transposed, grad_weight, grad_delta, n,
                               at.channels);
}

/* Both are there for any processor, and for those with wide vectors. */

typedef void Compose(const REAL *, const REAL *, REAL *, Sizes, Share);
typedef void Differentiate(const REAL *, const REAL *, const REAL *, REAL *, REAL *, REAL *, Sizes,
                           Share);

static void compose_any(const REAL *weight, const REAL *delta, REAL *composed, Sizes n, Share at) {
    compose_share(weight, delta, composed, n, at);
}

FOR_AVX2 static void compose_avx2(const REAL *weight, const REAL *delta, REAL *composed, Sizes n,
                                  Share at) {
    compose_share(weight, delta, composed, n, at);
}

static void differentiate_any(const REAL *weight, const REAL *delta, const REAL *grad,
                              REAL *transposed, REAL *grad_weight, REAL *grad_delta, Sizes n,
                              Share at) {
    differentiate_share(weight, delta, grad, transposed, grad_weight, grad_delta, n, at);
}

FOR_AVX2 static void differentiate_avx2(const REAL *weight, const REAL *delta, const REAL *grad,
                                        REAL *transposed, REAL *grad_weight, REAL *grad_delta,
                                        Sizes n, Share at) {
    differentiate_share(weight, delta, grad, transposed, grad_weight, grad_delta, n, at);
}

void compose(const REAL *weight, const REAL *delta, REAL *composed, const Sizes *sizes,
             int threads) {
    Sizes n = *sizes;
    Compose *compose_one = HAS_AVX2 ? compose_avx2 : compose_any;
#pragma omp parallel for num_threads(threads) if (is_large(n))
    for (int64_t i = 0; i < n.groups * shares_of_a_group(n, threads); i++)
        compose_one(weight, delta, composed, n, share(n, threads, i));
}

/* `transposed` is room for as many numbers as D' has: it is filled with D', area before slots, of
   which rows are multiplied. */
void differentiate(const REAL *weight, const REAL *delta, const REAL *grad, REAL *transposed,
                   REAL *grad_weight, REAL *grad_delta, const Sizes *sizes, int threads) {
    Sizes n = *sizes;
    Differentiate *differentiate_one = HAS_AVX2 ? differentiate_avx2 : differentiate_any;
#pragma omp parallel for num_threads(threads) if (is_large(n))
    for (int64_t i = 0; i < n.groups * shares_of_a_group(n, threads); i++)
        differentiate_one(weight, delta, grad, transposed, grad_weight, grad_delta, n,
                          share(n, threads, i));
}

/* W D' and its gradients, in loops; compiled once with REAL as float, and once as double.

   Arrays are contiguous: W and its gradient are `(G, rows, channels, slots)`, D' and its gradient
   `(G, channels, slots, area)`, W' and its gradient `(G, rows, channels, area)`. Rows are output
   channels, channels are input channels, both of a group; slots are D_mul, area is |K|.

   Threads share out the channels, so that a number is summed by one thread, in an order that does
   not depend on how many there are. A few rows are taken at a time, for they lie far apart: what is
   read of them is used for all there is to do before it leaves the cache. */

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_THE_PROCESSOR __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define FOR_THE_PROCESSOR
#endif
#define INLINE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("GCC unroll 8")

enum {
    LANES = 32 / sizeof(REAL),
    ROWS = 4,        /* at a time: with two vectors of each, as many sums as registers hold */
    SHARE = 32,      /* channels that a thread takes at a time */
    FEWEST = 1 << 20 /* products, below which a second thread takes longer to wake */
};

typedef REAL vector __attribute__((vector_size(32), aligned(sizeof(REAL)), may_alias));

typedef struct {
    long groups, rows, channels, slots, area;
    int is_added; /* W' has W added: D_mul = |K| */
} Sizes;

INLINE vector load(const REAL *from) { return *(const vector *)from; }
INLINE void store(REAL *to, vector what) { *(vector *)to = what; }
INLINE long least(long one, long other) { return one < other ? one : other; }

/* `count` rows of one channel's `kernel (rows, inner) x matrix (inner, outer)`, and the kernel if
   that is added: LANES columns from `first` on, and LANES from `second` on. */
INLINE void multiply_lanes(const REAL *kernel, long kernel_step, const REAL *matrix, REAL *written,
                           long step, long count, long inner, long outer, long first, long second,
                           int is_added) {
    vector sums[ROWS][2];
    UNROLLED for (long row = 0; row < count; row++) sums[row][0] = sums[row][1] = (vector){0};
    for (long i = 0; i < inner; i++) {
        vector left = load(matrix + i * outer + first), right = load(matrix + i * outer + second);
        UNROLLED for (long row = 0; row < count; row++) {
            REAL one = kernel[row * kernel_step + i];
            sums[row][0] += one * left;
            sums[row][1] += one * right;
        }
    }
    UNROLLED for (long row = 0; row < count; row++) {
        if (is_added) {
            sums[row][0] += load(kernel + row * kernel_step + first);
            sums[row][1] += load(kernel + row * kernel_step + second);
        }
        store(written + row * step + first, sums[row][0]);
        store(written + row * step + second, sums[row][1]);
    }
}

/* All columns: the last lanes end with a row, and write some columns twice. */
INLINE void multiply(const REAL *kernel, long kernel_step, const REAL *matrix, REAL *written,
                     long step, long count, long inner, long outer, int is_added) {
    for (long column = 0; outer >= LANES && column < outer; column += 2 * LANES) {
        long first = least(column, outer - LANES), second = least(first + LANES, outer - LANES);
        multiply_lanes(kernel, kernel_step, matrix, written, step, count, inner, outer, first,
                       second, is_added);
    }
    for (long row = 0; outer < LANES && row < count; row++)
        for (long column = 0; column < outer; column++) {
            REAL sum = 0;
            for (long i = 0; i < inner; i++)
                sum += kernel[row * kernel_step + i] * matrix[i * outer + column];
            if (is_added) sum += kernel[row * kernel_step + column];
            written[row * step + column] = sum;
        }
}

/* Adds `left (count, lines).T x right (count, LANES)` to as many lines of a matrix. */
INLINE void correlate_lanes(const REAL *left, long left_step, const REAL *right, long right_step,
                            REAL *matrix, long step, long count, long lines) {
    vector rights[ROWS];
    UNROLLED for (long row = 0; row < count; row++) rights[row] = load(right + row * right_step);
    for (long line = 0; line < lines; line++) {
        vector sum = load(matrix + line * step);
        UNROLLED for (long row = 0; row < count; row++)
            sum += left[row * left_step + line] * rights[row];
        store(matrix + line * step, sum);
    }
}

/* The same for one column: `left (count, lines).T x right (count)`. */
INLINE void correlate_column(const REAL *left, long left_step, const REAL *right, long right_step,
                             REAL *matrix, long step, long count, long lines) {
    long line = 0;
    for (; line + LANES <= lines; line += LANES) {
        vector sums = {0};
        UNROLLED for (long row = 0; row < count; row++)
            sums += load(left + row * left_step + line) * right[row * right_step];
        UNROLLED for (long lane = 0; lane < LANES; lane++)
            matrix[(line + lane) * step] += sums[lane];
    }
    for (; line < lines; line++) {
        REAL sum = 0;
        UNROLLED for (long row = 0; row < count; row++)
            sum += left[row * left_step + line] * right[row * right_step];
        matrix[line * step] += sum;
    }
}

/* Adds one channel's `kernel (count, slots).T x grad (count, area)` to its matrix. */
INLINE void correlate(const REAL *kernel, long kernel_step, const REAL *grad, long grad_step,
                      REAL *matrix, long count, long slots, long area) {
    long column = 0;
    for (; column + LANES <= area; column += LANES)
        correlate_lanes(kernel, kernel_step, grad + column, grad_step, matrix + column, area, count,
                        slots);
    for (; column < area; column++) /* one, of 3 x 3, 5 x 5 and 7 x 7 */
        correlate_column(kernel, kernel_step, grad + column, grad_step, matrix + column, area,
                         count, slots);
}

INLINE void compose_rows(const REAL *weight, const REAL *delta, REAL *composed, Sizes n,
                         long channels, long count) {
    for (long channel = 0; channel < channels; channel++)
        multiply(weight + channel * n.slots, n.channels * n.slots,
                 delta + channel * n.slots * n.area, composed + channel * n.area,
                 n.channels * n.area, count, n.slots, n.area, n.is_added);
}

INLINE void compose_channels(const REAL *weight, const REAL *delta, REAL *composed, Sizes n,
                             long channels) {
    for (long row = 0, count; row < n.rows; row += count) {
        const REAL *weights = weight + row * n.channels * n.slots;
        REAL *written = composed + row * n.channels * n.area;
        count = row + ROWS <= n.rows ? ROWS : 1;
        if (count == ROWS) /* a constant, for the compiler */
            compose_rows(weights, delta, written, n, channels, ROWS);
        else
            compose_rows(weights, delta, written, n, channels, 1);
    }
}

INLINE void differentiate_rows(const REAL *weight, const REAL *transposed, const REAL *grad,
                               REAL *grad_weight, REAL *grad_delta, Sizes n, long channels,
                               long count) {
    long weight_step = n.channels * n.slots, grad_step = n.channels * n.area;
    for (long channel = 0; channel < channels; channel++) {
        long at = channel * n.slots, matrix = channel * n.slots * n.area;
        const REAL *grads = grad + channel * n.area;
        multiply(grads, grad_step, transposed + matrix, grad_weight + at, weight_step, count,
                 n.area, n.slots, n.is_added);
        correlate(weight + at, weight_step, grads, grad_step, grad_delta + matrix, count, n.slots,
                  n.area);
    }
}

INLINE void differentiate_channels(const REAL *weight, const REAL *delta, const REAL *grad,
                                   REAL *transposed, REAL *grad_weight, REAL *grad_delta, Sizes n,
                                   long channels) {
    for (long channel = 0; channel < channels; channel++)
        for (long slot = 0; slot < n.slots; slot++)
            for (long position = 0; position < n.area; position++) {
                long matrix = channel * n.slots * n.area, at = matrix + slot * n.area + position;
                transposed[matrix + position * n.slots + slot] = delta[at];
                grad_delta[at] = 0;
            }
    for (long row = 0, count; row < n.rows; row += count) {
        const REAL *weights = weight + row * n.channels * n.slots;
        const REAL *grads = grad + row * n.channels * n.area;
        REAL *written = grad_weight + row * n.channels * n.slots;
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

FOR_THE_PROCESSOR static void compose_share(const REAL *weight, const REAL *delta, REAL *composed,
                                            Sizes n, long channels) {
    if (is_3_x_3(n))
        compose_channels(weight, delta, composed, of_3_x_3(n), channels);
    else
        compose_channels(weight, delta, composed, n, channels);
}

FOR_THE_PROCESSOR static void differentiate_share(const REAL *weight, const REAL *delta,
                                                  const REAL *grad, REAL *transposed,
                                                  REAL *grad_weight, REAL *grad_delta, Sizes n,
                                                  long channels) {
    if (is_3_x_3(n))
        differentiate_channels(weight, delta, grad, transposed, grad_weight, grad_delta,
                               of_3_x_3(n), channels);
    else
        differentiate_channels(weight, delta, grad, transposed, grad_weight, grad_delta, n,
                               channels);
}

/* Where a share begins in W, W' and D', and how many channels it has. */
typedef struct {
    long weight, composed, delta, channels;
} Share;

INLINE long shares_of_a_group(Sizes n) { return (n.channels + SHARE - 1) / SHARE; }

INLINE Share share(Sizes n, long index) {
    long group = index / shares_of_a_group(n), channel = index % shares_of_a_group(n) * SHARE;
    long kernel = group * n.rows * n.channels + channel, matrix = group * n.channels + channel;
    return (Share){kernel * n.slots, kernel * n.area, matrix * n.slots * n.area,
                   least(n.channels - channel, SHARE)};
}

INLINE int is_large(Sizes n) {
    return n.groups * n.rows * n.channels * n.slots * n.area >= FEWEST;
}

void compose(const REAL *weight, const REAL *delta, REAL *composed, const Sizes *sizes,
             int threads) {
    Sizes n = *sizes;
#pragma omp parallel for num_threads(threads) if (is_large(n))
    for (long i = 0; i < n.groups * shares_of_a_group(n); i++) {
        Share at = share(n, i);
        compose_share(weight + at.weight, delta + at.delta, composed + at.composed, n, at.channels);
    }
}

/* `transposed` is room for D' with area before slots, of which rows are multiplied. */
void differentiate(const REAL *weight, const REAL *delta, const REAL *grad, REAL *transposed,
                   REAL *grad_weight, REAL *grad_delta, const Sizes *sizes, int threads) {
    Sizes n = *sizes;
#pragma omp parallel for num_threads(threads) if (is_large(n))
    for (long i = 0; i < n.groups * shares_of_a_group(n); i++) {
        Share at = share(n, i);
        differentiate_share(weight + at.weight, delta + at.delta, grad + at.composed,
                            transposed + at.delta, grad_weight + at.weight, grad_delta + at.delta,
                            n, at.channels);
    }
}

/* Products of many small matrices, in vectors; compiled once with REAL as float, and once as double.

   A channel's matrix lies in one piece, its rows of a kernel far apart. Rows are taken `count` at a
   time, a constant for the compiler, which keeps their sums in registers. */

#pragma once

#include <stdint.h>

#if defined(__x86_64__)
#define FOR_AVX2 __attribute__((target("avx2,fma")))
#define HAS_AVX2 (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#else
#define FOR_AVX2
#define HAS_AVX2 0
#endif
/* Whether REAL is float: its vectors have eight lanes. */
#define IS_float 1
#define IS_double 0
#define IS(type) IS_##type
#define IS_FLOAT_(type) IS(type)
#define IS_FLOAT IS_FLOAT_(REAL)
#define INLINE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("GCC unroll 9")
#define ALIGNED __attribute__((aligned(32)))

enum {
    LANES = 32 / sizeof(REAL),
    ROWS = 4,          /* at a time, with two vectors of each: their sums stay in registers */
    MOST_EIGHTS = 256, /* channels that a thread takes by eights: D' stays in a near cache */
    FEWEST = 1 << 20   /* products, below which a second thread takes longer to wake */
};

typedef int64_t Index;
typedef REAL vector __attribute__((vector_size(32), aligned(sizeof(REAL)), may_alias));

/* Rows of which each begins `step` numbers after the last. */
typedef struct {
    const REAL *at;
    Index step;
} Rows;

/* Whether 3 x 3 kernels are taken by eight channels: without wide vectors only where the layout asks
   for it, for there it takes many instructions to give each channel a lane. */
INLINE int by_eights(Index area, int is_last) {
    return IS_FLOAT && area == 9 && (HAS_AVX2 || is_last);
}

INLINE vector load(const REAL *from) { return *(const vector *)from; }
INLINE void store(REAL *to, vector what) { *(vector *)to = what; }
INLINE Index least(Index one, Index other) { return one < other ? one : other; }
INLINE Index greatest(Index one, Index other) { return one > other ? one : other; }

/* `count` rows of one channel's `kernel (rows, inner) x matrix (inner, outer)`, and the kernel if
   that is added: LANES columns from `first` on, and LANES from `second` on. */
INLINE void multiply_lanes(Rows kernel, const REAL *matrix, REAL *written, Index step, Index count,
                           Index inner, Index outer, Index first, Index second, int is_added) {
    vector sums[ROWS][2];
    UNROLLED for (Index row = 0; row < count; row++) sums[row][0] = sums[row][1] = (vector){0};
    for (Index i = 0; i < inner; i++) {
        vector left = load(matrix + i * outer + first), right = load(matrix + i * outer + second);
        UNROLLED for (Index row = 0; row < count; row++) {
            REAL one = kernel.at[row * kernel.step + i];
            sums[row][0] += one * left;
            sums[row][1] += one * right;
        }
    }
    UNROLLED for (Index row = 0; row < count; row++) {
        if (is_added) {
            sums[row][0] += load(kernel.at + row * kernel.step + first);
            sums[row][1] += load(kernel.at + row * kernel.step + second);
        }
        store(written + row * step + first, sums[row][0]);
        store(written + row * step + second, sums[row][1]);
    }
}

/* All columns. The last vectors are moved back to end with the row: columns that two of them have
   are computed twice, with the same result. */
INLINE void multiply(Rows kernel, const REAL *matrix, REAL *written, Index step, Index count,
                     Index inner, Index outer, int is_added) {
    for (Index column = 0; outer >= LANES && column < outer; column += 2 * LANES) {
        Index first = least(column, outer - LANES), second = least(first + LANES, outer - LANES);
        multiply_lanes(kernel, matrix, written, step, count, inner, outer, first, second, is_added);
    }
    for (Index row = 0; outer < LANES && row < count; row++)
        for (Index column = 0; column < outer; column++) {
            REAL sum = 0;
            for (Index i = 0; i < inner; i++)
                sum += kernel.at[row * kernel.step + i] * matrix[i * outer + column];
            if (is_added) sum += kernel.at[row * kernel.step + column];
            written[row * step + column] = sum;
        }
}

/* Adds `left (count, lines).T x right (count, LANES)` to lines of a matrix, `step` apart. */
INLINE void correlate_lanes(Rows left, Rows right, REAL *matrix, Index step, Index count,
                            Index lines) {
    vector rights[ROWS];
    UNROLLED for (Index row = 0; row < count; row++)
        rights[row] = load(right.at + row * right.step);
    for (Index line = 0; line < lines; line++) {
        vector sum = load(matrix + line * step);
        UNROLLED for (Index row = 0; row < count; row++)
            sum += left.at[row * left.step + line] * rights[row];
        store(matrix + line * step, sum);
    }
}

/* The same for one column: `left (count, lines).T x right (count)`. */
INLINE void correlate_column(Rows left, Rows right, REAL *matrix, Index step, Index count,
                             Index lines) {
    Index line = 0;
    for (; line + LANES <= lines; line += LANES) {
        vector sums = {0};
        UNROLLED for (Index row = 0; row < count; row++)
            sums += load(left.at + row * left.step + line) * right.at[row * right.step];
        UNROLLED for (Index lane = 0; lane < LANES; lane++)
            matrix[(line + lane) * step] += sums[lane];
    }
    for (; line < lines; line++) {
        REAL sum = 0;
        UNROLLED for (Index row = 0; row < count; row++)
            sum += left.at[row * left.step + line] * right.at[row * right.step];
        matrix[line * step] += sum;
    }
}

/* Adds one channel's `kernel (count, slots).T x grad (count, area)` to its matrix. */
INLINE void correlate(Rows kernel, Rows grad, REAL *matrix, Index count, Index slots, Index area) {
    Index column = 0;
    for (; column + LANES <= area; column += LANES, grad.at += LANES)
        correlate_lanes(kernel, grad, matrix + column, area, count, slots);
    for (; column < area; column++, grad.at++) /* left over: one, of 3 x 3, 5 x 5 and 7 x 7 */
        correlate_column(kernel, grad, matrix + column, area, count, slots);
}

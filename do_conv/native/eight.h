/* Kernels of 3 x 3 with a lane for each of eight channels, so that no lane is idle: nine positions
   fill one vector of eight, and the ninth another. */

#pragma once

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "lanes.h"

enum {
    EIGHT = 8 * 9,        /* numbers of a row, for eight channels */
    MATRICES = 8 * 9 * 9, /* and of D' */
    GROUP = 8,            /* rows at a time: their positions stay in the nearest cache */
    BLOCKS = MOST_EIGHTS / 8,
    PAIR = 2              /* blocks that are written at a time: they fill lines of a cache */
};

/* Lanes of two vectors, by their numbers: 0 to 7 of one, 8 to 15 of the other. */
#if defined(__clang__)
#define SHUFFLE(one, other, ...) __builtin_shufflevector(one, other, __VA_ARGS__)
#else
typedef int lanes_of __attribute__((vector_size(32)));
#define SHUFFLE(one, other, ...) __builtin_shuffle(one, other, (lanes_of){__VA_ARGS__})
#endif

/* Which number of an array begins a row of eight channels, `first` for the first. The positions of
   a channel adjoin, and `between` is 0; in channels last they are `between` numbers apart. */
typedef struct {
    Index first, row, block, between;
} Layout;

INLINE Index begin(Layout layout, Index row, Index block) {
    return layout.first + row * layout.row + block * layout.block;
}

/* Rows of an array that are needed next. They are asked for one at a time, while others are computed:
   the processor neither foresees them nor has room for many at once. */
typedef struct {
    const REAL *rows;
    Layout layout;
    Index count;
} Ahead;

INLINE void fetch(Ahead ahead, Index row) {
    const REAL *at = ahead.rows + row * ahead.layout.row;
    if (row < ahead.count && ahead.layout.between)
        UNROLLED for (Index k = 0; k < 9; k++) __builtin_prefetch(at + k * ahead.layout.between);
    else if (row < ahead.count)
        UNROLLED for (Index j = 0; j < EIGHT; j += 64 / sizeof(REAL)) __builtin_prefetch(at + j);
}

/* Lane l of vector j is taken from vector j + l, modulo nine: by one, two and four vectors. */
#define MOVE_LANES(nine, vectors, ...)                                                        \
    {                                                                                         \
        vector from[9];                                                                       \
        UNROLLED for (int j = 0; j < 9; j++) from[j] = nine[j];                               \
        UNROLLED for (int j = 0; j < 9; j++)                                                  \
            nine[j] = SHUFFLE(from[j], from[(j + vectors) % 9], __VA_ARGS__);                 \
    }
INLINE void skew(vector *nine) {
    MOVE_LANES(nine, 1, 0, 9, 2, 11, 4, 13, 6, 15)
    MOVE_LANES(nine, 2, 0, 1, 10, 11, 4, 5, 14, 15)
    MOVE_LANES(nine, 4, 0, 1, 2, 3, 12, 13, 14, 15)
}

INLINE vector rotated(vector lanes, int by) {
    switch (by % 8) {
        case 1: return SHUFFLE(lanes, lanes, 1, 2, 3, 4, 5, 6, 7, 0);
        case 2: return SHUFFLE(lanes, lanes, 2, 3, 4, 5, 6, 7, 0, 1);
        case 3: return SHUFFLE(lanes, lanes, 3, 4, 5, 6, 7, 0, 1, 2);
        case 4: return SHUFFLE(lanes, lanes, 4, 5, 6, 7, 0, 1, 2, 3);
        case 5: return SHUFFLE(lanes, lanes, 5, 6, 7, 0, 1, 2, 3, 4);
        case 6: return SHUFFLE(lanes, lanes, 6, 7, 0, 1, 2, 3, 4, 5);
        case 7: return SHUFFLE(lanes, lanes, 7, 0, 1, 2, 3, 4, 5, 6);
        default: return lanes;
    }
}

/* Eight channels of one row: a vector for each position. Number `9 * channel + position` stands in
   lane `channel + position`, modulo eight, of vector `channel`, or of the next. */
INLINE void gather(const REAL *row, vector *positions, Index step) {
    vector nine[9];
    UNROLLED for (int i = 0; i < 9; i++) nine[i] = load(row + 8 * i);
    skew(nine);
    UNROLLED for (int k = 0; k < 9; k++) positions[k * step] = rotated(nine[(9 - k) % 9], k);
}

/* The way back. */
INLINE void scatter(const vector *positions, Index step, vector *row) {
    vector nine[9];
    UNROLLED for (int k = 0; k < 9; k++) nine[k] = rotated(positions[k * step], 8 - k);
    skew(nine);
    UNROLLED for (int i = 0; i < 9; i++) row[i] = nine[(9 - i) % 9];
}

/* GROUP rows of positions, `(9, GROUP)`, times a matrix `(9, 9)`, whose line is `line` vectors from
   the next and whose column `column`; the positions are added last, as in `multiply`, with the
   same rounding. */
INLINE void multiply_eight(const vector *positions, const vector *matrix, Index line, Index column,
                           vector *written, Ahead one, Ahead other) {
    for (Index row = 0; row < GROUP; row += 4)
        for (Index k = 0; k < 9; k++) {
            const vector *at = positions + row;
            vector sums[4];
            fetch(row ? one : other, k);
            UNROLLED for (int i = 0; i < 4; i++) sums[i] = (vector){0};
            UNROLLED for (int slot = 0; slot < 9; slot++) {
                vector number = matrix[slot * line + k * column];
                UNROLLED for (int i = 0; i < 4; i++) sums[i] += number * at[slot * GROUP + i];
            }
            UNROLLED for (int i = 0; i < 4; i++)
                written[k * GROUP + row + i] = sums[i] + at[k * GROUP + i];
        }
}

/* Adds what GROUP rows give to the gradient of D', `(slots, positions)`. */
INLINE void correlate_eight(const vector *weight, const vector *grad, vector *of_delta,
                            Ahead ahead) {
    for (Index slot = 0; slot < 9; slot++) {
        vector sums[9];
        fetch(ahead, slot);
        UNROLLED for (int k = 0; k < 9; k++) sums[k] = of_delta[slot * 9 + k];
        for (Index row = 0; row < GROUP; row++) {
            vector number = weight[slot * GROUP + row];
            UNROLLED for (int k = 0; k < 9; k++) sums[k] += number * grad[k * GROUP + row];
        }
        UNROLLED for (int k = 0; k < 9; k++) of_delta[slot * 9 + k] = sums[k];
    }
}

/* Up to GROUP rows, `(9, GROUP)`; rows beyond `count` are zero, and add nothing to a gradient. */
INLINE void gather_rows(const REAL *rows, Layout layout, Index count, vector *positions) {
    for (Index row = 0; row < count; row++, rows += layout.row)
        if (layout.between)
            UNROLLED for (Index k = 0; k < 9; k++)
                positions[k * GROUP + row] = load(rows + k * layout.between);
        else
            gather(rows, positions + row, GROUP);
    for (Index row = count; row < GROUP; row++)
        UNROLLED for (Index k = 0; k < 9; k++) positions[k * GROUP + row] = (vector){0};
}

/* Eight vectors, as the lines of a matrix that is transposed. */
INLINE void transpose(vector *eight) {
    vector one[8], two[8];
    UNROLLED for (int i = 0; i < 8; i += 2) {
        one[i] = SHUFFLE(eight[i], eight[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        one[i + 1] = SHUFFLE(eight[i], eight[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    UNROLLED for (int i = 0; i < 8; i += 4)
        UNROLLED for (int j = 0; j < 2; j++) {
            two[i + 2 * j] = SHUFFLE(one[i + j], one[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            two[i + 2 * j + 1] = SHUFFLE(one[i + j], one[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    UNROLLED for (int i = 0; i < 4; i++) {
        eight[i] = SHUFFLE(two[i], two[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        eight[i + 4] = SHUFFLE(two[i], two[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

/* The matrices of eight channels, a lane for each; numbers that two vectors have are the same. */
INLINE void gather_matrices(const REAL *matrices, vector *lanes) {
    for (Index i = 0; i < 81; i += 8) {
        const Index first = least(i, 81 - 8);
        vector eight[8];
        UNROLLED for (int channel = 0; channel < 8; channel++)
            eight[channel] = load(matrices + 81 * channel + first);
        transpose(eight);
        UNROLLED for (int j = 0; j < 8; j++) lanes[first + j] = eight[j];
    }
}

INLINE void scatter_matrices(const vector *lanes, REAL *matrices) {
    for (Index i = 0; i < 81; i += 8) {
        const Index first = least(i, 81 - 8);
        vector eight[8];
        UNROLLED for (int j = 0; j < 8; j++) eight[j] = lanes[first + j];
        transpose(eight);
        UNROLLED for (int channel = 0; channel < 8; channel++)
            store(matrices + 81 * channel + first, eight[channel]);
    }
}

/* Whether an array of so many numbers has left the caches before it is read. */
INLINE int is_larger_than_caches(Index numbers) { return numbers >= 1 << 20; }

/* Write eight numbers. What is larger than the caches goes to memory at once, without being read
   first; `end_writes` then lets other threads see it. */
INLINE void write(REAL *to, vector eight, int is_large) {
#if defined(__SSE__)
    if (is_large && (uintptr_t)to % 16 == 0) {
        const __m128 *halves = (const __m128 *)&eight;
        _mm_stream_ps(to, halves[0]);
        _mm_stream_ps(to + 4, halves[1]);
        return;
    }
#endif
    store(to, eight);
}

INLINE void end_writes(void) {
#if defined(__SSE__)
    _mm_sfence();
#endif
}

/* A few rows of eight channels, and those that are next in the order of memory. */
typedef struct {
    Index row, block, count, next_row, next_block, next_count;
} Tile;

INLINE Tile tile_of(Index rows, Index blocks, Index row, Index block) {
    const Index count = least(GROUP, rows - row), next_row = row + GROUP;
    if (block + 1 < blocks) return (Tile){row, block, count, row, block + 1, count};
    return (Tile){row, block, count, next_row, 0, least(GROUP, rows - next_row)};
}

INLINE Ahead ahead_of(const REAL *array, Layout layout, Tile tile) {
    if (!array) return (Ahead){0, layout, 0};
    return (Ahead){array + begin(layout, tile.next_row, tile.next_block), layout, tile.next_count};
}

/* Write the rows of a tile, with those of the tile before it: once a pair is whole, or the row ends. */
INLINE void write_tiles(REAL *array, Layout layout, Tile tile, Index blocks,
                        vector (*written)[9 * GROUP], int is_large) {
    const Index part = tile.block % PAIR;
    if (part + 1 < PAIR && tile.block + 1 < blocks) return;
    array += begin(layout, tile.row, tile.block - part);
    for (Index row = 0; row < tile.count; row++, array += layout.row)
        if (layout.between)
            for (Index k = 0; k < 9; k++)
                for (Index i = 0; i <= part; i++)
                    write(array + k * layout.between + i * 8, written[i][k * GROUP + row], is_large);
        else
            for (Index i = 0; i <= part; i++) {
                vector nine[9];
                scatter(written[i] + row, GROUP, nine);
                UNROLLED for (Index j = 0; j < 9; j++)
                    write(array + i * EIGHT + 8 * j, nine[j], is_large);
            }
}

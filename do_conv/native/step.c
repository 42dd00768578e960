/* One step of an optimizer on W and D', given the gradient of W', by blocks of channels. A block is
   passed twice: for the gradients of both and their update, then to compose W' of the new D', which
   all rows have to give first. Kernels of a network are stepped together, so that threads share out
   the channels of all.

   Arrays are contiguous, and D_mul is |K|: W, its state, W' and its gradient are `(G, rows,
   channels, area)`, D' and its state `(G, channels, area, area)`, with the names of `loops.c`. W' and
   its gradient may be channels last, `(G, rows, area, channels)`, if channels are taken by eights. A
   few rows of a few channels at a time pass through the nearest cache. */

#include <math.h>

#include "lanes.h"
#if IS_FLOAT
#include "eight.h"
#endif

enum { WIDE = 288 /* numbers of a row that a thread takes at a time, at most */ };

/* How an array is updated, in the terms of `torch.optim`. */
typedef struct {
    int is_adam, is_first, is_nesterov, is_decoupled;
    double rate, scale, decay, momentum, added; /* of SGD the last two */
    double beta1, beta2, epsilon;            /* of Adam */
    double correction1, correction2;         /* of Adam: 1 - beta1^t and 1 - beta2^t */
} Rule;

typedef struct {
    REAL *weight, *delta; /* updated */
    const REAL *grad;     /* of W' */
    REAL *composed;       /* W', written */
    REAL *weight_state[2], *delta_state[2]; /* SGD's momentum or NULL; Adam's two averages */
    Index groups, rows, channels, area;
    int is_last; /* W' and its gradient are channels last */
    Rule weight_rule, delta_rule;
} Step;

/* The first momentum is the gradient itself. */
INLINE void update_sgd(const Rule *rule, REAL *restrict array, const REAL *restrict grad,
                       REAL *restrict momentum, Index numbers, int is_first, int is_nesterov) {
    const REAL rate = rule->rate, decay = rule->decay, kept = rule->momentum;
    const REAL scale = rule->scale, added = rule->added;
    for (Index i = 0; i < numbers; i++) {
        REAL along = scale * grad[i] + decay * array[i];
        if (momentum) {
            REAL moved = is_first ? along : kept * momentum[i] + added * along;
            momentum[i] = moved;
            along = is_nesterov ? along + kept * moved : moved;
        }
        array[i] -= rate * along;
    }
}

INLINE void update_adam(const Rule *rule, REAL *restrict array, const REAL *restrict grad,
                        REAL *restrict mean, REAL *restrict square, Index numbers) {
    const REAL rate = rule->rate / rule->correction1, root = sqrt(rule->correction2);
    const REAL beta2 = rule->beta2, epsilon = rule->epsilon;
    const REAL rest1 = 1 - rule->beta1, rest2 = 1 - rule->beta2; /* rounded once, of doubles */
    const REAL scale = rule->scale;
    const REAL decay = rule->is_decoupled ? 0 : rule->decay;
    const REAL kept = rule->is_decoupled ? 1 - rule->rate * rule->decay : 1;
    for (Index i = 0; i < numbers; i++) {
        REAL along = scale * grad[i] + decay * array[i];
        mean[i] += rest1 * (along - mean[i]);
        square[i] = beta2 * square[i] + rest2 * along * along;
        REAL size = sizeof(REAL) == sizeof(float) ? sqrtf(square[i]) : sqrt(square[i]);
        array[i] = kept * array[i] - rate * (mean[i] / (size / root + epsilon));
    }
}

/* `numbers` numbers of an array from `at` on; the branches are made of constants, for speed. */
INLINE void update(const Rule *rule, REAL *array, const REAL *grad, REAL *const *state, Index at,
                   Index numbers) {
    array += at;
    if (rule->is_adam)
        update_adam(rule, array, grad, state[0] + at, state[1] + at, numbers);
    else if (!state[0])
        update_sgd(rule, array, grad, 0, numbers, 0, 0);
    else if (rule->is_first)
        update_sgd(rule, array, grad, state[0] + at, numbers, 1, rule->is_nesterov);
    else if (rule->is_nesterov)
        update_sgd(rule, array, grad, state[0] + at, numbers, 0, 1);
    else
        update_sgd(rule, array, grad, state[0] + at, numbers, 0, 0);
}

/* `count` rows from the number `at` on: the gradient of W, an update of W, and what the rows add to
   the gradient of D'. */
INLINE void update_rows(const Step *step, const REAL *transposed, REAL *of_delta, Index at,
                        Index channels, Index area, Index count) {
    const Index stride = step->channels * area, wide = channels * area, square = area * area;
    REAL of_weight[ROWS * WIDE];
    for (Index channel = 0; channel < channels; channel++) {
        Rows kernel = {step->weight + at + channel * area, stride};
        Rows grad = {step->grad + at + channel * area, stride};
        multiply(grad, transposed + channel * square, of_weight + channel * area, wide, count, area,
                 area, 1);
        correlate(kernel, grad, of_delta + channel * square, count, area, area);
    }
    for (Index row = 0; row < count; row++)
        update(&step->weight_rule, step->weight, of_weight + row * wide, step->weight_state,
               at + row * stride, wide);
}

INLINE void compose_rows(const Step *step, const REAL *delta, Index at, Index channels, Index area,
                         Index count) {
    const Index stride = step->channels * area;
    for (Index channel = 0; channel < channels; channel++) {
        Rows kernel = {step->weight + at + channel * area, stride};
        multiply(kernel, delta + channel * area * area, step->composed + at + channel * area, stride,
                 count, area, area, 1);
    }
}

/* Channels of a group: `at` is the number of their first row in W, `matrix` that of their first
   matrix in D'. */
INLINE void step_channels(const Step *step, Index at, Index matrix, Index channels, Index area) {
    const Index stride = step->channels * area, square = area * area;
    const REAL *delta = step->delta + matrix;
    enum { WIDEST = 49 /* kernel positions, at most: 7 x 7 */ };
    REAL transposed[WIDE * WIDEST], of_delta[WIDE * WIDEST];
    for (Index channel = 0; channel < channels; channel++)
        for (Index slot = 0; slot < area; slot++)
            for (Index position = 0; position < area; position++)
                transposed[channel * square + position * area + slot] =
                    delta[channel * square + slot * area + position];
    for (Index i = 0; i < channels * square; i++) of_delta[i] = 0;

    Index row = 0;
    for (; row + ROWS <= step->rows; row += ROWS) {
        update_rows(step, transposed, of_delta, at + row * stride, channels, area, ROWS);
    }
    for (; row < step->rows; row++)
        update_rows(step, transposed, of_delta, at + row * stride, channels, area, 1);

    update(&step->delta_rule, step->delta, of_delta, step->delta_state, matrix, channels * square);

    for (row = 0; row + ROWS <= step->rows; row += ROWS) {
        compose_rows(step, delta, at + row * stride, channels, area, ROWS);
    }
    for (; row < step->rows; row++)
        compose_rows(step, delta, at + row * stride, channels, area, 1);
}

#if IS_FLOAT
/* The same for blocks of eight channels of 3 x 3. Rows are passed from end to end: where a thread
   took few channels, the processor would fetch those beside them, which another thread writes. */
INLINE void step_eights(const Step *step, Index at, Index matrix, Index blocks) {
    const Index stride = step->channels * 9, channel = matrix / 81 % step->channels;
    const Layout own = {at, stride, EIGHT, 0}, last = {at - 8 * channel, stride, 8, step->channels};
    const Layout theirs = step->is_last ? last : own;
    const int is_large = is_larger_than_caches(step->groups * step->rows * stride);
    ALIGNED vector delta[BLOCKS][81], of_delta[BLOCKS][81];
    ALIGNED vector weight[9 * GROUP], grad[9 * GROUP], written[PAIR][9 * GROUP];
    ALIGNED REAL matrices[MATRICES];
    for (Index block = 0; block < blocks; block++) {
        gather_matrices(step->delta + matrix + block * MATRICES, delta[block]);
        for (int i = 0; i < 81; i++) of_delta[block][i] = (vector){0};
    }
    for (Index row = 0; row < step->rows; row += GROUP)
        for (Index block = 0; block < blocks; block++) {
            const Tile tile = tile_of(step->rows, blocks, row, block);
            const Index first = begin(own, row, block);
            gather_rows(step->weight + first, own, tile.count, weight);
            gather_rows(step->grad + begin(theirs, row, block), theirs, tile.count, grad);
            correlate_eight(weight, grad, of_delta[block], ahead_of(step->weight, own, tile));
            multiply_eight(grad, delta[block], 1, 9, written[0], ahead_of(step->grad, theirs, tile),
                           ahead_of(step->weight_state[0], own, tile));
            for (Index i = 0; i < tile.count; i++) {
                ALIGNED vector of_weight[9];
                scatter(written[0] + i, GROUP, of_weight);
                update(&step->weight_rule, step->weight, (REAL *)of_weight, step->weight_state,
                       first + i * stride, EIGHT);
            }
        }
    for (Index block = 0; block < blocks; block++) {
        const Index its_own = matrix + block * MATRICES;
        scatter_matrices(of_delta[block], matrices);
        update(&step->delta_rule, step->delta, matrices, step->delta_state, its_own, MATRICES);
        gather_matrices(step->delta + its_own, delta[block]);
    }
    for (Index row = 0; row < step->rows; row += GROUP)
        for (Index block = 0; block < blocks; block++) {
            const Tile tile = tile_of(step->rows, blocks, row, block);
            gather_rows(step->weight + begin(own, row, block), own, tile.count, weight);
            multiply_eight(weight, delta[block], 9, 1, written[block % PAIR],
                           ahead_of(step->weight, own, tile), ahead_of(0, own, tile));
            write_tiles(step->composed, theirs, tile, blocks, written, is_large);
        }
    if (is_large) end_writes();
}

#endif

/* For any processor, and for one with wide vectors; the compiler unrolls 3 x 3. */
INLINE void step_share(const Step *step, Index at, Index matrix, Index channels) {
#if IS_FLOAT
    const Index eights = by_eights(step->area, step->is_last) ? channels / 8 : 0;
    if (eights) step_eights(step, at, matrix, eights);
    at += eights * EIGHT, matrix += eights * MATRICES, channels -= eights * 8;
#endif
    if (channels && step->area == 9)
        step_channels(step, at, matrix, channels, 9);
    else if (channels)
        step_channels(step, at, matrix, channels, step->area);
}

static void step_any(const Step *step, Index at, Index matrix, Index channels) {
    step_share(step, at, matrix, channels);
}
FOR_AVX2 static void step_avx2(const Step *step, Index at, Index matrix, Index channels) {
    step_share(step, at, matrix, channels);
}

/* How many channels a thread takes at a time. */
INLINE Index share_of(const Step *job, int threads) {
    const Index fair = (job->channels + threads - 1) / threads;
    if (!by_eights(job->area, job->is_last)) return WIDE / job->area;
    return least(MOST_EIGHTS, greatest(WIDE / 9, (fair + 15) / 16 * 16));
}

/* How many such shares a kernel has. */
INLINE Index shares_of(const Step *job, int threads) {
    const Index share = share_of(job, threads);
    return job->groups * ((job->channels + share - 1) / share);
}

void step(const Step *jobs, Index count, int threads) {
    void (*work)(const Step *, Index, Index, Index) = HAS_AVX2 ? step_avx2 : step_any;
    Index shares = 0, products = 0;
    for (Index i = 0; i < count; i++) {
        shares += shares_of(jobs + i, threads);
        products += jobs[i].groups * jobs[i].rows * jobs[i].channels * jobs[i].area * jobs[i].area;
    }
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (products >= FEWEST)
    for (Index i = 0; i < shares; i++) {
        /* From the last kernel on: it is often the largest, and threads shall end together. */
        const Step *job = jobs + count - 1;
        Index left = i; /* shares before this one in its kernel */
        for (; left >= shares_of(job, threads); job--) left -= shares_of(job, threads);
        const Index share = share_of(job, threads), of_group = shares_of(job, threads) / job->groups;
        const Index group = left / of_group, channel = left % of_group * share;
        work(job, (group * job->rows * job->channels + channel) * job->area,
             (group * job->channels + channel) * job->area * job->area,
             least(share, job->channels - channel));
    }
}

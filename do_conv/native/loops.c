/* W D' and its gradients, in loops.

   Arrays are contiguous: W and its gradient are `(G, rows, channels, slots)`, D' and its gradient
   `(G, channels, slots, area)`, W' and its gradient `(G, rows, channels, area)`. Rows are output
   channels, channels are input channels, both of a group; slots are D_mul, area is |K|.

   Threads share out the channels, so that a number is summed by one thread, in an order that does
   not depend on how many there are. A few rows are taken at a time, for they lie far apart: what is
   read of them is used for all there is to do before it leaves the cache. */

#include "lanes.h"
#if IS_FLOAT
#include "eight.h"
#endif

#if defined(__linux__)
#include <sys/mman.h>
#endif

enum { SHARE = 128 /* channels that a thread takes at a time, at most */ };

/* What there is to do. Either gradient may be NULL: it is not asked for. */
typedef struct {
    const REAL *weight, *delta, *grad;
    REAL *transposed; /* room for D', area before slots: of that, rows are multiplied */
    REAL *composed, *grad_weight, *grad_delta;
    Index groups, rows, channels, slots, area;
    int is_added; /* W' has W added: D_mul = |K| */
    int is_last;  /* W, W' and their gradients are channels last: 3 x 3, channels by eights */
} Job;

/* `count` rows, from `row` on, of the first channels. */
INLINE void compose_rows(Job job, Index channels, Index row, Index count) {
    Index from = job.channels * job.slots, to = job.channels * job.area;
    for (Index channel = 0; channel < channels; channel++) {
        Rows kernel = {job.weight + row * from + channel * job.slots, from};
        multiply(kernel, job.delta + channel * job.slots * job.area,
                 job.composed + row * to + channel * job.area, to, count, job.slots, job.area,
                 job.is_added);
    }
}

INLINE void differentiate_rows(Job job, Index channels, Index row, Index count) {
    Index from = job.channels * job.area, to = job.channels * job.slots;
    for (Index channel = 0; channel < channels; channel++) {
        Index at = row * to + channel * job.slots, matrix = channel * job.slots * job.area;
        Rows kernel = {job.weight + at, to};
        Rows grad = {job.grad + row * from + channel * job.area, from};
        if (job.grad_weight)
            multiply(grad, job.transposed + matrix, job.grad_weight + at, to, count, job.area,
                     job.slots, job.is_added);
        if (job.grad_delta)
            correlate(kernel, grad, job.grad_delta + matrix, count, job.slots, job.area);
    }
}

/* All rows; how many at a time is a constant for the compiler. */
INLINE void compose_channels(Job job, Index channels) {
    Index row = 0;
    for (; row + ROWS <= job.rows; row += ROWS) compose_rows(job, channels, row, ROWS);
    for (; row < job.rows; row++) compose_rows(job, channels, row, 1);
}

INLINE void differentiate_channels(Job job, Index channels) {
    Index row = 0, numbers = job.slots * job.area;
    for (Index channel = 0; channel < channels; channel++)
        for (Index slot = 0; slot < job.slots; slot++)
            for (Index position = 0; position < job.area; position++)
                job.transposed[channel * numbers + position * job.slots + slot] =
                    job.delta[channel * numbers + slot * job.area + position];
    for (Index i = 0; job.grad_delta && i < channels * numbers; i++) job.grad_delta[i] = 0;
    for (; row + ROWS <= job.rows; row += ROWS) differentiate_rows(job, channels, row, ROWS);
    for (; row < job.rows; row++) differentiate_rows(job, channels, row, 1);
}

/* The compiler unrolls what it knows the sizes of. */
INLINE int is_3_x_3(Job job) { return job.slots == 9 && job.area == 9; }

INLINE Job of_3_x_3(Job job) {
    job.slots = job.area = 9;
    return job;
}

/* The job from a channel of a group on. */
INLINE Job moved(Job job, Index group, Index channel) {
    const Index rows = group * job.rows * job.channels, matrices = group * job.channels + channel;
    const Index kernel = rows * job.slots + channel * (job.is_last ? 1 : job.slots);
    const Index composed = rows * job.area + channel * (job.is_last ? 1 : job.area);
    const Index matrix = matrices * job.slots * job.area;
    job.weight += kernel, job.delta += matrix;
    if (job.composed) job.composed += composed;
    if (job.grad) job.grad += composed, job.transposed += matrix;
    if (job.grad_weight) job.grad_weight += kernel;
    if (job.grad_delta) job.grad_delta += matrix;
    return job;
}

#if IS_FLOAT
/* How a job's kernels are laid out, from its first channel on. */
INLINE Layout layout_of(Job job) {
    const Index row = job.channels * 9;
    return job.is_last ? (Layout){0, row, 8, job.channels} : (Layout){0, row, EIGHT, 0};
}

/* The same for blocks of eight channels of 3 x 3, D_mul = 9. */
INLINE void compose_eights(Job job, Index blocks) {
    const Layout layout = layout_of(job);
    const int is_large = 0; /* a convolution reads it next */
    ALIGNED vector delta[BLOCKS][81], weight[9 * GROUP], composed[PAIR][9 * GROUP];
    for (Index block = 0; block < blocks; block++)
        gather_matrices(job.delta + block * MATRICES, delta[block]);
    for (Index row = 0; row < job.rows; row += GROUP)
        for (Index block = 0; block < blocks; block++) {
            const Tile tile = tile_of(job.rows, blocks, row, block);
            gather_rows(job.weight + begin(layout, row, block), layout, tile.count, weight);
            multiply_eight(weight, delta[block], 9, 1, composed[block % PAIR],
                           ahead_of(job.weight, layout, tile), ahead_of(0, layout, tile));
            write_tiles(job.composed, layout, tile, blocks, composed, is_large);
        }
}

INLINE void differentiate_eights(Job job, Index blocks) {
    const Layout layout = layout_of(job);
    const int is_large = is_larger_than_caches(job.groups * job.rows * layout.row);
    ALIGNED vector delta[BLOCKS][81], of_delta[BLOCKS][81];
    ALIGNED vector weight[9 * GROUP], grad[9 * GROUP], of_weight[PAIR][9 * GROUP];
    for (Index block = 0; block < blocks; block++) {
        gather_matrices(job.delta + block * MATRICES, delta[block]);
        for (int i = 0; i < 81; i++) of_delta[block][i] = (vector){0};
    }
    for (Index row = 0; row < job.rows; row += GROUP)
        for (Index block = 0; block < blocks; block++) {
            const Tile tile = tile_of(job.rows, blocks, row, block);
            const Index first = begin(layout, row, block);
            gather_rows(job.grad + first, layout, tile.count, grad);
            if (job.grad_delta) {
                gather_rows(job.weight + first, layout, tile.count, weight);
                correlate_eight(weight, grad, of_delta[block], ahead_of(job.weight, layout, tile));
            }
            if (!job.grad_weight) continue;
            multiply_eight(grad, delta[block], 1, 9, of_weight[block % PAIR],
                           ahead_of(job.grad, layout, tile), ahead_of(0, layout, tile));
            write_tiles(job.grad_weight, layout, tile, blocks, of_weight, is_large);
        }
    for (Index block = 0; block < blocks && job.grad_delta; block++)
        scatter_matrices(of_delta[block], job.grad_delta + block * MATRICES);
    if (is_large) end_writes();
}
#endif

INLINE void compose_share(Job job, Index channels) {
#if IS_FLOAT
    const Index eights = job.is_added && by_eights(job.area, job.is_last) ? channels / 8 * 8 : 0;
    if (eights) compose_eights(job, eights / 8);
    job = moved(job, 0, eights), channels -= eights;
#endif
    if (is_3_x_3(job))
        compose_channels(of_3_x_3(job), channels);
    else
        compose_channels(job, channels);
}

INLINE void differentiate_share(Job job, Index channels) {
#if IS_FLOAT
    const Index eights = job.is_added && by_eights(job.area, job.is_last) ? channels / 8 * 8 : 0;
    if (eights) differentiate_eights(job, eights / 8);
    job = moved(job, 0, eights), channels -= eights;
#endif
    if (is_3_x_3(job))
        differentiate_channels(of_3_x_3(job), channels);
    else
        differentiate_channels(job, channels);
}

/* Both for any processor, and for one with wide vectors. */
static void compose_any(Job job, Index channels) { compose_share(job, channels); }
static void differentiate_any(Job job, Index channels) { differentiate_share(job, channels); }
FOR_AVX2 static void compose_avx2(Job job, Index channels) { compose_share(job, channels); }
FOR_AVX2 static void differentiate_avx2(Job job, Index channels) {
    differentiate_share(job, channels);
}

INLINE void share_out(Job job, void (*work)(Job, Index), int threads) {
    /* By sixteens, so that the number of threads does not decide which are taken by eights. */
    Index fair = (job.groups * job.channels + threads - 1) / threads;
    Index share = least(SHARE, (fair + 15) / 16 * 16);
    Index shares = (job.channels + share - 1) / share; /* of a group */
    Index products = job.groups * job.rows * job.channels * job.slots * job.area;
#pragma omp parallel for num_threads(threads) if (products >= FEWEST)
    for (Index i = 0; i < job.groups * shares; i++) {
        Index channel = i % shares * share;
        work(moved(job, i / shares, channel), least(share, job.channels - channel));
    }
}

/* An array as large as this is memory never written before, for none is kept for the next: it comes
   faster in a few large pages. */
static void prefer_large_pages(REAL *array, Index numbers) {
#if defined(MADV_HUGEPAGE)
    const uintptr_t page = 1 << 21, large = 1 << 25;
    uintptr_t first = ((uintptr_t)array + page - 1) / page, end = (uintptr_t)(array + numbers) / page;
    if (array && numbers * sizeof(REAL) >= large)
        madvise((void *)(first * page), (end - first) * page, MADV_HUGEPAGE);
#endif
}

void compose(const Job *job, int threads) {
    prefer_large_pages(job->composed, job->groups * job->rows * job->channels * job->area);
    share_out(*job, HAS_AVX2 ? compose_avx2 : compose_any, threads);
}

void differentiate(const Job *job, int threads) {
    prefer_large_pages(job->grad_weight, job->groups * job->rows * job->channels * job->slots);
    share_out(*job, HAS_AVX2 ? differentiate_avx2 : differentiate_any, threads);
}

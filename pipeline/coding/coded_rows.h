// What the kernels of the codings share: the layout of coded rows, and how a GPU is cut up.
//
// docs/compression.md has the format. Compiled for one type of pixels, PIXEL, and, without a GPU, by
// a host compiler for the tests. Everything that is read from a file may hold any bytes: no index
// comes from it that was not checked, here or by who launches.

#ifndef PIXEL
#define PIXEL unsigned short
#endif
#ifndef WARP
#define WARP 32
#define MOST_THREADS 1024  // of a block
#endif

#ifdef __CUDACC__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL
#endif

#define MOST_LANES 4096
#define EACH (MOST_LANES / MOST_THREADS)  // lanes of a thread at most
#define SYMBOLS 256                       // of a table, the escape included
#define SLOTS 4096                        // frequencies add up to this
#define LOW 65536u                        // states begin and end at this
#define ITEMS 8                           // values of a thread where rows are cut into chunks
#define EVERY_LANE 0xffffffffu

typedef unsigned char byte;
typedef unsigned long long wide;

// Rows of one stream, entropy coded or as byte planes; cuda_rows.py has the same fields.
struct Rows {
    unsigned *states;               // (lanes,)
    unsigned short *words;          // (words_there,), 16 bytes aligned
    const unsigned short *sizes;    // (classes, SYMBOLS): frequencies
    const int *kinds;               // (classes, 3): shift, least, count
    const byte *classes;            // (rows,)
    int *escaped;                   // values beside the tables
    byte *low;                      // low bits, or planes of bytes
    const wide *low_from;           // (rows,): the first low bit of a row
    unsigned *slots;                // (classes, SLOTS): frequency − 1, place, symbol
    byte *symbols;                  // (rows, n)
    unsigned *escapes;              // (rows, chunks): how many escapes are before a chunk
    int *values;                    // (rows, n)
    unsigned *found;                // FOUND…
    wide n;
    unsigned rows, lanes, words_there, class_count, escaped_there, planes;
};

// Two at most: scores and residual.
struct Streams {
    Rows at[2];
};

// What a stream was found to be: words taken (or all bits set where they ended too early), states
// that do not end where they began, escapes, and the largest magnitude of a value.
#define FOUND_WORDS 0
#define FOUND_STATES 1
#define FOUND_ESCAPES 2
#define FOUND_TOP 3

__device__ inline wide chunks_of(const Rows &r)
{
    const wide chunk = (wide)blockDim.x * ITEMS;
    return (r.n + chunk - 1) / chunk;
}

// The greatest over the threads of a warp goes into *at; all of them must call it.
__device__ inline void keep_greatest(unsigned *at, unsigned value)
{
    for (int half = WARP / 2; half; half /= 2) {
        const unsigned other = __shfl_down_sync(EVERY_LANE, value, half);
        value = other > value ? other : value;
    }
    if (threadIdx.x % WARP == 0 && value)
        atomicMax(at, value);
}

// How many threads of a block say yes: before this one, in their order, and in all.
struct Votes {
    unsigned before, all;
};

// Counts them by a vote in each warp and the sums of the others; all threads must call it. `sums` is
// used in turns: who is a call ahead writes into the other half.
__device__ inline Votes count_votes(bool yes, unsigned (*sums)[MOST_THREADS / WARP], unsigned &phase)
{
    const unsigned lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const unsigned votes = __ballot_sync(EVERY_LANE, yes);
    if (lane == 0)
        sums[phase][warp] = __popc(votes);
    __syncthreads();
    Votes count = {(unsigned)__popc(votes & ((1u << lane) - 1)), 0};
    for (unsigned w = 0; w < blockDim.x / WARP; ++w) {
        count.before += w < warp ? sums[phase][w] : 0;
        count.all += sums[phase][w];
    }
    phase ^= 1;
    return count;
}

// The sum over the threads of a block, in all of them; all of them must call it.
template <typename T> __device__ inline T block_sum(T value)
{
    __shared__ T sums[MOST_THREADS];
    __syncthreads();
    sums[threadIdx.x] = value;
    __syncthreads();
    T sum = 0;
    for (unsigned t = 0; t < blockDim.x; ++t)
        sum += sums[t];
    return sum;
}

__device__ inline unsigned magnitude(int value)
{
    return value < 0 ? 0u - (unsigned)value : (unsigned)value;
}

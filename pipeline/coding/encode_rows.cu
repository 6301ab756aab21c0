// Values to coded rows: what they are measured by (spreads, histograms; the host makes tables of
// them), symbols, low bits and escapes, then words. Bytes are those that the CPU's coder gives for
// the same values and tables. Knows coded_rows.h.

#define WINDOW 4096        // values of a class, in its units, that may have a symbol
#define COUNTED 128        // values of a thread where they are counted
#define LOW_WORD 32        // low bits that are written at once

// Adds the magnitudes of each row up.
extern "C" __global__ void sum_rows(const int *values, wide *totals, wide n)
{
    const wide chunks = (n + blockDim.x * COUNTED - 1) / (blockDim.x * COUNTED);
    const wide row = blockIdx.x / chunks, first = blockIdx.x % chunks * blockDim.x * COUNTED;
    wide total = 0;
    for (unsigned j = 0; j < COUNTED; ++j) {
        const wide i = first + j * blockDim.x + threadIdx.x;
        if (i < n)
            total += magnitude(values[row * n + i]);
    }
    total = block_sum(total);
    if (threadIdx.x == 0)
        atomicAdd(totals + row, total);
}

// Counts the values of each class in its units, those beyond the window at its ends.
extern "C" __global__ void count_values(Rows r, unsigned *counts)
{
    __shared__ unsigned here[WINDOW];
    const wide chunks = (r.n + blockDim.x * COUNTED - 1) / (blockDim.x * COUNTED);
    const wide row = blockIdx.x / chunks, first = blockIdx.x % chunks * blockDim.x * COUNTED;
    const unsigned kind = r.classes[row];
    const int shift = r.kinds[3 * kind], half = WINDOW / 2;
    for (unsigned i = threadIdx.x; i < WINDOW; i += blockDim.x)
        here[i] = 0;
    __syncthreads();
    for (unsigned j = 0; j < COUNTED; ++j) {
        const wide i = first + j * blockDim.x + threadIdx.x;
        if (i < r.n) {
            const int value = r.values[row * r.n + i] >> shift;
            const int inside = value < -half ? -half : value >= half ? half - 1 : value;
            atomicAdd(here + inside + half, 1u);
        }
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < WINDOW; i += blockDim.x)
        if (here[i])
            atomicAdd(counts + kind * WINDOW + i, here[i]);
}

// Gives values their symbols, and their low bits a place; low is 0 before.
extern "C" __global__ void find_symbols(Rows r)
{
    const wide chunks = chunks_of(r), row = blockIdx.x / chunks;
    const int *kind = r.kinds + 3 * r.classes[row];
    const int shift = kind[0], least = kind[1], count = kind[2];
    const wide first = blockIdx.x % chunks * blockDim.x * ITEMS;
    unsigned *low = (unsigned *)r.low;
    for (unsigned j = 0; j < ITEMS; ++j) {
        const wide i = first + j * blockDim.x + threadIdx.x;
        const int value = i < r.n ? r.values[row * r.n + i] : 0;
        if (i < r.n) {
            const int symbol = (value >> shift) - least;
            r.symbols[row * r.n + i] = (byte)(symbol < 0 || symbol >= count ? count : symbol);
        }
        for (int plane = 0; plane < shift; ++plane) {
            const unsigned bits = __ballot_sync(EVERY_LANE, value >> plane & 1);
            if (threadIdx.x % WARP || !bits)
                continue;
            const wide bit = r.low_from[row] + plane * r.n + i;
            const unsigned up = (unsigned)(bit % LOW_WORD);
            atomicOr(low + bit / LOW_WORD, bits << up);
            if (up && bits >> (LOW_WORD - up))
                atomicOr(low + bit / LOW_WORD + 1, bits >> (LOW_WORD - up));
        }
    }
}

// Writes the escaped values, in their order; escapes were counted and added up.
extern "C" __global__ void put_escaped(Rows r)
{
    const wide chunks = chunks_of(r), row = blockIdx.x / chunks;
    const byte escape = (byte)r.kinds[3 * r.classes[row] + 2];
    const wide first = blockIdx.x % chunks * blockDim.x * ITEMS;
    const byte *symbols = r.symbols + row * r.n;
    for (unsigned j = 0; j < ITEMS; ++j) {
        const wide i = first + j * blockDim.x + threadIdx.x;
        if (i >= r.n || symbols[i] != escape)
            continue;
        unsigned at = r.escapes[blockIdx.x];  // they are rare: those before are counted again
        for (wide before = first; before < i; ++before)
            at += symbols[before] == escape;
        if (at < r.escaped_there)
            r.escaped[at] = r.values[row * r.n + i];
    }
}

// Codes symbols, the last first; words fill their room from its end. One block of threads.
extern "C" __global__ void __launch_bounds__(MOST_THREADS) encode_symbols(Rows r)
{
    __shared__ unsigned size[SYMBOLS], start[SYMBOLS], sums[2][MOST_THREADS / WARP];
    unsigned state[EACH], at = r.words_there, phase = 0;
    int known = -1;
    UNROLL
    for (unsigned j = 0; j < EACH; ++j)
        state[j] = LOW;
    for (unsigned row = r.rows; row-- > 0;) {
        if (r.classes[row] != known) {
            known = r.classes[row];
            __syncthreads();
            for (unsigned s = threadIdx.x; s < SYMBOLS; s += blockDim.x) {
                size[s] = r.sizes[known * SYMBOLS + s];
                start[s] = 0;
                for (unsigned before = 0; before < s; ++before)
                    start[s] += r.sizes[known * SYMBOLS + before];
            }
            __syncthreads();
        }
        const byte *symbols = r.symbols + row * r.n;
        for (wide first = (r.n - 1) / r.lanes * r.lanes + r.lanes; first > 0;) {
            first -= r.lanes;
            const unsigned here = r.n - first < r.lanes ? (unsigned)(r.n - first) : r.lanes;
            UNROLL
            for (unsigned j = EACH; j-- > 0;) {
                const unsigned mine = j * blockDim.x + threadIdx.x;
                if (j * blockDim.x >= here)
                    continue;
                unsigned x = state[j], symbol = 0;
                bool gives = false;
                if (mine < here) {
                    symbol = symbols[first + mine];
                    gives = x >= (wide)size[symbol] << 20;
                }
                const Votes votes = count_votes(gives, sums, phase);
                at -= votes.all;
                if (gives) {
                    r.words[at + votes.before] = (unsigned short)x;
                    x >>= 16;
                }
                if (mine < here)
                    state[j] = (x / size[symbol] << 12) + x % size[symbol] + start[symbol];
            }
        }
    }
    UNROLL
    for (unsigned j = 0; j < EACH; ++j) {
        const unsigned mine = j * blockDim.x + threadIdx.x;
        if (mine < r.lanes)
            r.states[mine] = state[j];
    }
    if (threadIdx.x == 0)
        r.found[FOUND_WORDS] = r.words_there - at;
}

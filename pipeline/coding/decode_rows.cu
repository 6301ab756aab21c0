// Coded rows to values: symbols, one stream a block of threads, a lane a thread; then low bits and
// escapes, in chunks of rows. Knows coded_rows.h.

#define RING 8192  // words that are at hand: four chunks of the most that are fetched at once
#define FETCH 8    // words that a thread fetches at once

// What is looked up for the low 12 bits of a state; a block of threads for each class.
extern "C" __global__ void build_slots(Streams streams)
{
    const Rows &r = streams.at[blockIdx.y];
    const unsigned kind = blockIdx.x;
    if (kind >= r.class_count)
        return;
    const unsigned short *sizes = r.sizes + kind * SYMBOLS;
    unsigned *slots = r.slots + (wide)kind * SLOTS;
    for (unsigned symbol = threadIdx.x; symbol < SYMBOLS; symbol += blockDim.x) {
        unsigned start = 0;
        for (unsigned before = 0; before < symbol; ++before)
            start += sizes[before];
        const unsigned size = sizes[symbol];
        for (unsigned place = 0; place < size && start + place < SLOTS; ++place)
            slots[start + place] = (size - 1) << 20 | place << 8 | symbol;
    }
}

// The next words of a stream, kept in shared memory a while before they are needed: in registers
// between being asked for and being stored, so that nobody waits for them.
struct Ring {
    uint4 coming;
    unsigned loaded;  // words that were stored in the ring

    __device__ unsigned chunk() const
    {
        return (blockDim.x < RING / 4 / FETCH ? blockDim.x : RING / 4 / FETCH) * FETCH;
    }
    __device__ void ask(const Rows &r)
    {
        const wide first = (wide)loaded + threadIdx.x * FETCH;
        coming = make_uint4(0, 0, 0, 0);
        if (threadIdx.x * FETCH < chunk() && first < r.words_there)
            coming = __ldg((const uint4 *)(r.words + first));
    }
    // Words from passed on may still be being read by other threads.
    __device__ void refill(const Rows &r, unsigned *ring, unsigned passed)
    {
        if (loaded + chunk() - passed > RING)
            return;
        if (threadIdx.x * FETCH < chunk()) {
            unsigned *to = ring + (loaded + threadIdx.x * FETCH) % RING / 2;
            to[0] = coming.x;
            to[1] = coming.y;
            to[2] = coming.z;
            to[3] = coming.w;
        }
        loaded += chunk();
        ask(r);
    }
};

// Decodes the symbols of a stream; blockIdx.x is its number. Lanes take words in their order: each
// thread counts those before it that need one, in its warp by a vote, in others by their sums.
extern "C" __global__ void __launch_bounds__(MOST_THREADS) decode_symbols(Streams streams)
{
    __shared__ unsigned table[SLOTS], ring[RING / 2], sums[2][MOST_THREADS / WARP];
    const Rows &r = streams.at[blockIdx.x];
    unsigned state[EACH], at = 0, passed = 0, phase = 0;
    Ring words;
    int known = -1;
    if (!r.lanes || !r.rows || !r.n)
        return;
    UNROLL
    for (unsigned j = 0; j < EACH; ++j) {
        const unsigned mine = j * blockDim.x + threadIdx.x;
        state[j] = mine < r.lanes ? r.states[mine] : LOW;
    }
    words.loaded = 0;
    words.ask(r);
    for (unsigned row = 0; row < r.rows; ++row) {
        if (r.classes[row] != known) {
            known = r.classes[row];
            __syncthreads();  // all are done with the table before
            for (unsigned i = threadIdx.x; i < SLOTS; i += blockDim.x)
                table[i] = __ldg(r.slots + known * SLOTS + i);
            __syncthreads();
        }
        byte *symbols = r.symbols + row * r.n;
        for (wide first = 0; first < r.n; first += r.lanes) {
            const unsigned here = r.n - first < r.lanes ? (unsigned)(r.n - first) : r.lanes;
            UNROLL
            for (unsigned j = 0; j < EACH; ++j) {
                const unsigned mine = j * blockDim.x + threadIdx.x;
                if (j * blockDim.x >= here)
                    break;
                words.refill(r, ring, passed);
                passed = at;
                unsigned x = state[j];
                if (mine < here) {
                    const unsigned slot = table[x & (SLOTS - 1)];
                    symbols[first + mine] = (byte)slot;
                    x = ((slot >> 20) + 1) * (x >> 12) + (slot >> 8 & (SLOTS - 1));
                }
                const bool need = mine < here && x < LOW;
                const Votes votes = count_votes(need, sums, phase);
                if (votes.all > r.words_there - at) {  // the same for all threads
                    if (threadIdx.x == 0)
                        r.found[FOUND_WORDS] = EVERY_LANE;
                    return;
                }
                if (need) {
                    const unsigned word = (at + votes.before) % RING;
                    x = x << 16 | (ring[word / 2] >> word % 2 * 16 & 0xffff);
                }
                at += votes.all;
                state[j] = x;
            }
        }
    }
    if (threadIdx.x == 0)
        r.found[FOUND_WORDS] = at;
    UNROLL
    for (unsigned j = 0; j < EACH; ++j)
        if (state[j] != LOW)
            atomicAdd(r.found + FOUND_STATES, 1u);
}

// Counts the escapes of each chunk of each row.
extern "C" __global__ void count_escapes(Streams streams)
{
    __shared__ unsigned total;
    const Rows &r = streams.at[blockIdx.y];
    const wide chunks = chunks_of(r), row = blockIdx.x / chunks;
    if (row >= r.rows || r.planes)
        return;
    const unsigned escape = (unsigned)r.kinds[3 * r.classes[row] + 2];
    const byte *symbols = r.symbols + row * r.n;
    const wide first = blockIdx.x % chunks * blockDim.x * ITEMS;
    unsigned found = 0;
    for (unsigned j = 0; j < ITEMS; ++j) {
        const wide i = first + j * blockDim.x + threadIdx.x;
        found += i < r.n && symbols[i] == escape;
    }
    if (threadIdx.x == 0)
        total = 0;
    __syncthreads();
    if (found)
        atomicAdd(&total, found);
    __syncthreads();
    if (threadIdx.x == 0)
        r.escapes[blockIdx.x] = total;
}

// Turns the counts of chunks into sums of those before; one block of threads a stream.
extern "C" __global__ void add_escapes(Streams streams, unsigned chunk_threads)
{
    __shared__ unsigned sums[MOST_THREADS];
    const Rows &r = streams.at[blockIdx.x];
    const wide chunk = (wide)chunk_threads * ITEMS;
    const wide count = r.planes ? 0 : (r.n + chunk - 1) / chunk * r.rows;
    const wide each = (count + blockDim.x - 1) / blockDim.x;
    const wide first = each * threadIdx.x, end = first + each < count ? first + each : count;
    unsigned total = 0;
    for (wide i = first; i < end; ++i)
        total += r.escapes[i];
    sums[threadIdx.x] = total;
    __syncthreads();
    unsigned before = 0, all = 0;
    for (unsigned t = 0; t < blockDim.x; ++t) {
        before += t < threadIdx.x ? sums[t] : 0;
        all += sums[t];
    }
    for (wide i = first; i < end; ++i) {
        const unsigned here = r.escapes[i];
        r.escapes[i] = before;
        before += here;
    }
    if (threadIdx.x == 0 && !r.planes)
        r.found[FOUND_ESCAPES] = all;
}

// One escaped value: escapes are rare, so those before it in its chunk are counted again.
__device__ inline int escaped_value(const Rows &r, const byte *chunk, wide at, unsigned escape,
                                    unsigned before)
{
    for (wide i = 0; i < at; ++i)
        before += chunk[i] == escape;
    return before < r.escaped_there ? r.escaped[before] : 0;
}

// Low bits of value i of a row.
__device__ inline unsigned low_bits(const Rows &r, wide row, wide i, int shift)
{
    unsigned bits = 0;
    for (int plane = 0; plane < shift; ++plane) {
        const wide bit = r.low_from[row] + plane * r.n + i;
        bits |= (unsigned)(r.low[bit >> 3] >> (bit & 7) & 1) << plane;
    }
    return bits;
}

// Makes values of symbols, low bits and escapes, or of byte planes (z even is z / 2, odd
// −(z + 1) / 2), and finds the largest magnitude.
extern "C" __global__ void join_values(Streams streams)
{
    const Rows &r = streams.at[blockIdx.y];
    const wide chunks = chunks_of(r), row = blockIdx.x / chunks;
    if (row >= r.rows)
        return;
    const int *kind = r.planes ? nullptr : r.kinds + 3 * r.classes[row];
    const int shift = kind ? kind[0] : 0;
    const unsigned escape = kind ? (unsigned)kind[2] : SYMBOLS, all = r.rows * (unsigned)r.n;
    const wide first = blockIdx.x % chunks * blockDim.x * ITEMS;
    unsigned top = 0;
    for (unsigned j = 0; j < ITEMS; ++j) {
        const wide i = first + j * blockDim.x + threadIdx.x, at = row * r.n + i;
        if (i >= r.n)
            break;
        int value;
        if (!kind) {
            unsigned z = 0;
            for (unsigned plane = 0; plane < r.planes; ++plane)
                z |= (unsigned)r.low[(wide)plane * all + at] << 8 * plane;
            value = (int)(z >> 1 ^ (0u - (z & 1)));
        } else if (r.symbols[at] == escape) {
            value = escaped_value(r, r.symbols + at - (i - first), i - first, escape,
                                  r.escapes[blockIdx.x]);
        } else {
            value = (int)(((unsigned)r.symbols[at] + (unsigned)kind[1]) << shift |
                          low_bits(r, row, i, shift));
        }
        r.values[at] = value;
        const unsigned size = magnitude(value);
        top = size > top ? size : top;
    }
    keep_greatest(r.found + FOUND_TOP, top);
}

// What the kernels of pixel_pass.cu and group_math.cu stand on: how raw pixels lie in memory, eight
// of them at a time, and sums over a warp. Put in front of both files before they are compiled, with
// NVRTC for the GPU and with a host compiler for the tests (tests/compute/host_shim).
//
// A line is bands × samples pixels without a gap, as counts (PACKING 0), as pixels that follow each
// other bit by bit (1) or as pairs in three bytes (2). ALIGNED says that samples is a multiple of
// VECTOR: then eight pixels begin on a vector of their own, else on any bit.

#ifndef RAW
#define RAW unsigned short  // type of a count
#endif
#ifndef PACKING
#define PACKING 0
#endif
#ifndef BITS
#define BITS (8 * (int)sizeof(RAW))  // bits of a pixel in memory
#endif
#ifndef ALIGNED
#define ALIGNED 0
#endif
#ifndef LANES
#define LANES 16  // threads side by side along the samples
#define ROWS 16   // threads side by side along the bands
#define WARP 32
#endif

#define VECTOR 8  // neighbouring samples of a thread
#define STRIP 4   // lines of a row of the finest preview; its cells are STRIP × STRIP
#define SPAN (LANES * VECTOR)
#define THREADS (LANES * ROWS)

#ifdef __CUDACC__
#define UNROLL _Pragma("unroll")
#define NOT_A_NUMBER __int_as_float(0x7fffffff)
// Stops the compiler from working a value out anew at each use, to save a register.
#define KEEP(value) asm("" : "+f"(value))
#else
#define UNROLL
#define KEEP(value)
#endif

// 32-bit words that hold VECTOR pixels; where pairs may begin with their second one, a pair more.
constexpr int WORDS = (VECTOR * BITS + (PACKING == 2 && !ALIGNED ? 24 : 0) + 31) / 32;

constexpr unsigned MASK = 0xffffffffu >> (32 - BITS);

struct Words {
    unsigned at[WORDS];
};

__device__ inline int smaller(int a, int b) { return a < b ? a : b; }
__device__ inline int larger(int a, int b) { return a > b ? a : b; }

// The bits of VECTOR pixels of a line, from one that is a multiple of VECTOR within its row. Reads
// whole words, and past the last sample of a line: 64 bytes behind a block must be there.
__device__ inline Words fetch(const unsigned char *line, long long pixel)
{
    Words words;
    if constexpr (ALIGNED && VECTOR * BITS % 128 == 0) {
        const uint4 *from = (const uint4 *)(line + pixel * BITS / 8);
        UNROLL
        for (int i = 0; i < WORDS / 4; ++i) {
            const uint4 four = __ldg(from + i);
            words.at[4 * i] = four.x;
            words.at[4 * i + 1] = four.y;
            words.at[4 * i + 2] = four.z;
            words.at[4 * i + 3] = four.w;
        }
    } else if constexpr (ALIGNED && VECTOR * BITS % 64 == 0) {
        const uint2 two = __ldg((const uint2 *)(line + pixel * BITS / 8));
        words.at[0] = two.x;
        words.at[1] = two.y;
    } else if constexpr (ALIGNED && VECTOR * BITS % 32 == 0) {
        const unsigned *from = (const unsigned *)(line + pixel * BITS / 8);
        UNROLL
        for (int i = 0; i < WORDS; ++i)
            words.at[i] = __ldg(from + i);
    } else {
        const unsigned long long bit = PACKING == 2 ? (pixel >> 1) * 24 : pixel * BITS;
        const unsigned char *byte = line + (bit >> 3);
        const unsigned off = (unsigned)((unsigned long long)byte & 3);
        const unsigned shift = 8 * off + (unsigned)(bit & 7);
        const unsigned *from = (const unsigned *)(byte - off);
        unsigned low = __ldg(from);
        UNROLL
        for (int i = 0; i < WORDS; ++i) {
            const unsigned high = __ldg(from + i + 1);
            words.at[i] = (unsigned)(((unsigned long long)high << 32 | low) >> shift);
            low = high;
        }
    }
    return words;
}

// A pixel of pairs in three bytes: its high bits outside, its low bits in a half of the middle one.
__device__ inline unsigned of_pair(const Words &words, int i)
{
    const int first = i / 2 * 3, middle = first + 1, outer = first + i % 2 * 2;
    const unsigned high = words.at[outer / 4] >> outer % 4 * 8 & 255u;
    const unsigned low = words.at[middle / 4] >> (middle % 4 * 8 + i % 2 * 4);
    return high << (BITS - 8) | (low & (MASK >> 8));
}

// Count i of VECTOR pixels; pixel is the number that was given to fetch.
__device__ inline int count_of(const Words &words, int i, long long pixel)
{
    if constexpr (PACKING == 2) {
        if constexpr (ALIGNED)
            return (int)of_pair(words, i);
        return (int)(pixel & 1 ? of_pair(words, i + 1) : of_pair(words, i));
    } else {
        const int at = i * BITS, word = at / 32, bit = at % 32;
        unsigned value = words.at[word] >> bit;
        if (bit + BITS > 32)
            value |= words.at[word + 1] << (32 - bit);
        return (int)(RAW)(value & MASK);
    }
}

// One count of a line.
__device__ inline int count_at(const unsigned char *line, long long pixel)
{
    if constexpr (PACKING == 0) {
        return (int)((const RAW *)line)[pixel];
    } else if constexpr (PACKING == 1) {
        // at most 12 bits from an even bit: always in two bytes
        const unsigned char *byte = line + (pixel * BITS >> 3);
        return (int)((unsigned)(byte[0] | byte[1] << 8) >> (pixel * BITS & 7) & MASK);
    } else {
        const unsigned char *pair = line + (pixel >> 1) * 3;
        const int odd = (int)(pixel & 1);
        return pair[2 * odd] << (BITS - 8) | (pair[1] >> 4 * odd & ((1 << (BITS - 8)) - 1));
    }
}

// VECTOR floats of a row of samples; outside stands for those behind its end.
__device__ inline void load_row(const float *row, int sample, int samples, float outside,
                                float (&to)[VECTOR])
{
    if constexpr (ALIGNED) {
        UNROLL
        for (int i = 0; i < VECTOR / 4; ++i) {
            const float4 four = __ldg((const float4 *)(row + sample) + i);
            to[4 * i] = four.x;
            to[4 * i + 1] = four.y;
            to[4 * i + 2] = four.z;
            to[4 * i + 3] = four.w;
        }
    } else {
        UNROLL
        for (int i = 0; i < VECTOR; ++i)
            to[i] = sample + i < samples ? __ldg(row + sample + i) : outside;
    }
}

// Stores VECTOR floats of a row of samples.
__device__ inline void store_row(float *row, int sample, int samples, const float (&from)[VECTOR])
{
    if constexpr (ALIGNED) {
        UNROLL
        for (int i = 0; i < VECTOR / 4; ++i)
            __stcs((float4 *)(row + sample) + i, make_float4(from[4 * i], from[4 * i + 1],
                                                             from[4 * i + 2], from[4 * i + 3]));
    } else {
        UNROLL
        for (int i = 0; i < VECTOR; ++i)
            if (sample + i < samples)
                row[sample + i] = from[i];
    }
}

// Stores VECTOR values of 16 bits, the low halves of from.
__device__ inline void store_row(unsigned short *row, int sample, int samples,
                                 const unsigned (&from)[VECTOR])
{
    if constexpr (ALIGNED) {
        unsigned pair[VECTOR / 2];
        UNROLL
        for (int i = 0; i < VECTOR / 2; ++i)
            pair[i] = (from[2 * i] & 0xffffu) | from[2 * i + 1] << 16;
        __stcs((uint4 *)(row + sample), make_uint4(pair[0], pair[1], pair[2], pair[3]));
    } else {
        UNROLL
        for (int i = 0; i < VECTOR; ++i)
            if (sample + i < samples)
                row[sample + i] = (unsigned short)from[i];
    }
}

// The sum over the lanes of a warp, in lane 0; all of them must call it.
template <typename T> __device__ inline T warp_sum(T value)
{
    UNROLL
    for (int half = WARP / 2; half; half /= 2)
        value += __shfl_down_sync(0xffffffffu, value, half);
    return value;
}

// The greatest over the lanes of a warp, in lane 0; all of them must call it.
__device__ inline float warp_max(float value)
{
    UNROLL
    for (int half = WARP / 2; half; half /= 2)
        value = fmaxf(value, __shfl_down_sync(0xffffffffu, value, half));
    return value;
}

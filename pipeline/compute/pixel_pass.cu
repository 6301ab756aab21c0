// The fused pixel pass: each raw pixel is read once, and everything that is asked for is made of it.
//
// docs/compute.md states the semantics; pipeline/compute/tables.py makes the tables. Compiled without
// contraction to fused multiply-adds and without flushing to zero, so that every product and sum
// rounds as on the CPU. Knows raw_pixels.h.

enum Kind { NONE = 0, INT16 = 1, UINT16 = 2, FLOAT32 = 3 };

#define SCALE 10000.0f
#define ROUNDER 12582912.0f  // 1.5 · 2²³: added to |x| < 2²², it leaves rint(x) in the low bits
#define STRIPS 4             // most strips that a thread works on for one row of the tables
#define LINES (STRIPS * STRIP)
#define QUADS (SPAN / 4)

// What a pass is armed for; cuda_pass.py has the same fields. Tables are (bands, samples).
struct Pass {
    const unsigned char *raw;     // lines of pitch bytes
    const float *black, *gain;    // black is finite; gain is NaN where a pixel gives nothing itself
    const int *place;             // row of fix for pixels of the bad-pixel map, else −1
    const int *fix;               // (rows, 4): band, sample, good bands below and above, or −1
    const float *weight;          // (rows,) of the band above
    const unsigned char *planes;  // (3, samples)
    void *out;                    // (lines, bands, samples) of kind
    float *sums;                  // (strips, bands, cells)
    unsigned *totals;             // (tiles, 2, most lines): saturated, below dark
    unsigned *clipped;            // (tiles, strip groups)
    unsigned char *quality;       // (lines, 6, samples)
    const float *factors;         // (2, most lines): scale and offset of each line; 0: 1 and 0
    // 0 before and after each launch:
    unsigned *bright, *dim;       // (strips, STRIP, samples)
    unsigned *tickets, *cutting;  // (tiles, strip groups)
    long long pitch;
    int bands, samples, most_lines, strips_each, bands_each, fixes, level, dark, kind, preview, mask;
};

// What a value of a line with this scale is multiplied by, in one step, to be stored.
__device__ inline float times(float scale, int kind)
{
    return kind == FLOAT32 ? scale : scale * SCALE;
}

// Stores one value that may be NaN, multiplied; returns 1 when it was clipped to the limits of its
// type.
__device__ inline unsigned store_one(void *out, long long at, float v, float by, int kind)
{
    const float x = v * by;
    const bool known = x == x;
    if (kind == INT16) {
        const float y = x > 32767.0f ? 32767.0f : x < -32767.0f ? -32767.0f : x;
        ((short *)out)[at] = known ? (short)(int)rintf(y) : (short)-32768;
        return x >= 32767.5f || x <= -32767.5f;
    }
    if (kind == UINT16) {
        const float y = x > 65534.0f ? 65534.0f : x < 0.0f ? 0.0f : x;
        ((unsigned short *)out)[at] = known ? (unsigned short)(int)rintf(y) : 65535;
        return x < -0.5f || x > 65534.5f;
    }
    if (kind == FLOAT32)
        ((float *)out)[at] = x;
    return 0;
}

// Stores the values of VECTOR samples, multiplied, or what stands for an invalid one where a bit of
// gone is set. Returns how many were clipped.
__device__ inline unsigned store_vector(const Pass &p, long long row, int sample,
                                        const float (&v)[VECTOR], float by, unsigned gone)
{
    unsigned value[VECTOR], cut = 0;
    if (p.kind == INT16) {
        float most = 0.0f;
        UNROLL
        for (int i = 0; i < VECTOR; ++i) {
            const float x = v[i] * by;
            most = fmaxf(most, fabsf(x));
            value[i] = __float_as_uint(fminf(fmaxf(x, -32767.0f), 32767.0f) + ROUNDER);
        }
        if (most >= 32767.5f) {
            UNROLL
            for (int i = 0; i < VECTOR; ++i)
                cut += fabsf(v[i] * by) >= 32767.5f;
        }
    } else if (p.kind == UINT16) {
        float most = 0.0f, least = 0.0f;
        UNROLL
        for (int i = 0; i < VECTOR; ++i) {
            const float x = v[i] * by;
            most = fmaxf(most, x);
            least = fminf(least, x);
            value[i] = __float_as_uint(fmaxf(fminf(x, 65534.0f), 0.0f) + ROUNDER);
        }
        if (most > 65534.5f || least < -0.5f) {
            UNROLL
            for (int i = 0; i < VECTOR; ++i)
                cut += v[i] * by < -0.5f || v[i] * by > 65534.5f;
        }
    } else {
        float kept[VECTOR];
        UNROLL
        for (int i = 0; i < VECTOR; ++i)
            kept[i] = gone >> i & 1 ? NOT_A_NUMBER : v[i] * by;
        store_row((float *)p.out + row, sample, p.samples, kept);
        return 0;
    }
    if (gone) {
        UNROLL
        for (int i = 0; i < VECTOR; ++i)
            value[i] = gone >> i & 1 ? (p.kind == INT16 ? 0x8000u : 0xffffu) : value[i];
    }
    store_row((unsigned short *)p.out + row, sample, p.samples, value);
    return cut;
}

// Scale and offset of a line. Where there are none, 1 and 0 change no bit of any value.
__device__ inline float scale_of(const Pass &p, int line)
{
    return p.factors ? __ldg(p.factors + line) : 1.0f;
}

__device__ inline float offset_of(const Pass &p, int line)
{
    return p.factors ? __ldg(p.factors + p.most_lines + line) : 0.0f;
}

// The value of a bad pixel from its neighbours along the spectrum, linear in the band number; before
// the scale of the line.
__device__ inline float mended(const Pass &p, int n, int row, int sample)
{
    const unsigned char *line = p.raw + n * p.pitch;
    const float offset = offset_of(p, n);
    const long long low = (long long)p.fix[4 * row + 2] * p.samples + sample;
    const long long high = (long long)p.fix[4 * row + 3] * p.samples + sample;
    const float v = (((float)count_at(line, low) - offset) - p.black[low]) * p.gain[low];
    const float w = (((float)count_at(line, high) - offset) - p.black[high]) * p.gain[high];
    return v + (w - v) * p.weight[row];
}

// Adds 1 to the byte of each of VECTOR samples that is so and that counts.
template <typename Test>
__device__ inline void tally(unsigned *to, const unsigned (&counted)[VECTOR / 4], Test is_so)
{
    UNROLL
    for (int w = 0; w < VECTOR / 4; ++w) {
        unsigned four = 0;
        UNROLL
        for (int i = 0; i < 4; ++i)
            four |= (unsigned)is_so(4 * w + i) << 8 * i;
        if (four & counted[w])
            atomicAdd(to + w, four & counted[w]);
    }
}

// A tile's part of the quality mask and of the totals of lines, by the last block that worked on it;
// leaves the counters at 0 for the next launch. A warp takes a line at a time.
__device__ inline void finish_tile(const Pass &p, const unsigned char *valid, int lines, int phase,
                                   int first_strip)
{
    const int lane = threadIdx.x % WARP, first = blockIdx.x * SPAN;
    const int last = smaller(first + SPAN, p.samples);
    const int end = smaller((first_strip + p.strips_each) * STRIP - phase, lines);
    for (int n = first_strip * STRIP - phase + (int)threadIdx.x / WARP; n < end;
         n += THREADS / WARP) {
        if (n < 0)
            continue;
        const bool ok = valid[n];
        unsigned bright = 0, dim = 0;
        for (int s = first + lane; s < last; s += WARP) {
            const long long at = (long long)(n + phase) * p.samples + s;
            const unsigned hit = atomicExch(&p.bright[at], 0u), low = atomicExch(&p.dim[at], 0u);
            bright += hit;
            dim += low;
            if (!p.mask)
                continue;
            unsigned char *to = p.quality + (long long)n * 6 * p.samples + s;
            to[0] = (unsigned char)(hit < 255 ? hit : 255);
            to[1 * p.samples] = ok ? p.planes[s] : 0;
            to[2 * p.samples] = (unsigned char)(low < 255 ? low : 255);
            to[3 * p.samples] = ok ? p.planes[p.samples + s] : 0;
            to[4 * p.samples] = ok ? p.planes[2 * p.samples + s] : 0;
            to[5 * p.samples] = (unsigned char)(ok ? 0 : p.bands < 255 ? p.bands : 255);
        }
        bright = warp_sum(bright);
        dim = warp_sum(dim);
        if (lane == 0) {
            unsigned *to = p.totals + (long long)blockIdx.x * 2 * p.most_lines + n;
            to[0] = bright;
            to[p.most_lines] = dim;
        }
    }
}

// One block: a tile of SPAN samples, strips_each strips of STRIP lines, bands_each bands.
//
// grid: x tiles, y groups of strips, z groups of bands. A thread has VECTOR samples of every ROWS-th
// band; it reads the tables once for all its strips. Counters of a block are bytes (bands_each is
// less than 256), four samples to a word; the last block of a tile and group of strips finishes it.
extern "C" __global__ void __launch_bounds__(THREADS, 3)
    pass_pixels(const Pass p, const unsigned char *valid, int lines, int strips, int phase)
{
    __shared__ unsigned share[2 * LINES * QUADS];  // kind, line, four samples
    __shared__ unsigned share_cut, share_last;
    const int t = threadIdx.x, lane = t % LANES;
    const int s = blockIdx.x * SPAN + lane * VECTOR;
    const int first_strip = blockIdx.y * p.strips_each;
    const int end_strip = smaller(first_strip + p.strips_each, strips);
    const int end_band = smaller((blockIdx.z + 1) * p.bands_each, p.bands);
    const int cells = (p.samples + STRIP - 1) / STRIP;
    unsigned cut = 0;

    for (int i = t; i < 2 * LINES * QUADS; i += THREADS)
        share[i] = 0;
    if (t == 0)
        share_cut = 0;
    __syncthreads();

    for (int b = blockIdx.z * p.bands_each + t / LANES; b < end_band && s < p.samples; b += ROWS) {
        const long long row = (long long)b * p.samples;
        float black[VECTOR], gain[VECTOR];
        load_row(p.black + row, s, p.samples, 0.0f, black);
        load_row(p.gain + row, s, p.samples, 0.0f, gain);
        unsigned gone = 0, mend = 0, counted[VECTOR / 4] = {0x01010101u, 0x01010101u};
        UNROLL
        for (int i = 0; i < VECTOR; ++i) {
            const bool ok = gain[i] == gain[i];
            gone |= (unsigned)!ok << i;
            gain[i] = ok ? gain[i] : 0.0f;
            KEEP(gain[i]);
            if (!ALIGNED && s + i >= p.samples)
                counted[i / 4] &= ~(1u << 8 * (i % 4));
        }
        if (p.fixes)
            for (unsigned left = gone; left; left &= left - 1) {
                const int i = __ffs(left) - 1;
                const int bad = p.place[row + s + i];
                const unsigned byte = bad < 0 ? 0 : 1u << 8 * (i % 4);
                counted[0] &= i < 4 ? ~byte : ~0u;
                counted[1] &= i < 4 ? ~0u : ~byte;
                mend |= (unsigned)(bad >= 0 && p.fix[4 * bad + 2] >= 0) << i;
            }
        for (int k = first_strip; k < end_strip; ++k) {
            const int start = k * STRIP - phase;
            Words raw[STRIP];
            unsigned char alive[STRIP];
            UNROLL
            for (int j = 0; j < STRIP; ++j) {  // all loads before the first use; any line will do
                const int n = start + j < 0 ? 0 : smaller(start + j, lines - 1);
                raw[j] = fetch(p.raw + n * p.pitch, row + s);
                alive[j] = __ldg(valid + n);
            }
            float cell[2] = {0.0f, 0.0f};
            UNROLL
            for (int j = 0; j < STRIP; ++j) {
                const int n = start + j;
                if (n < 0 || n >= lines)
                    continue;
                const long long line = (long long)n * p.bands * p.samples + row;
                float v[VECTOR];
                if (!alive[j]) {
                    UNROLL
                    for (int i = 0; i < VECTOR; ++i)
                        v[i] = 0.0f;
                    if (p.kind)
                        store_vector(p, line, s, v, 1.0f, 0xffu);
                    continue;
                }
                const float scale = scale_of(p, n), offset = offset_of(p, n);
                int most = 0;
                float least = 2.0f;
                UNROLL
                for (int i = 0; i < VECTOR; ++i) {
                    const int count = count_of(raw[j], i, row + s);
                    const float above = ((float)count - offset) - black[i];
                    most = larger(most, count);
                    least = fminf(least, above);
                    v[i] = above * gain[i];
                }
                unsigned *to = share + ((k - first_strip) * STRIP + j) * QUADS + lane * (VECTOR / 4);
                if (most >= p.level && p.level >= 0)
                    tally(to, counted, [&](int i) {
                        return count_of(raw[j], i, row + s) >= p.level;
                    });
                // a rounded offset is at most half a count off
                if (least < (p.factors ? 1.0f : 0.0f) && p.dark)
                    tally(to + LINES * QUADS, counted, [&](int i) {
                        return (float)count_of(raw[j], i, row + s) - rintf(offset) < black[i];
                    });
                if (p.kind)
                    cut += store_vector(p, line, s, v, times(scale, p.kind), gone);
                UNROLL
                for (int i = 0; i < VECTOR; ++i)
                    v[i] *= scale;
                cell[0] += (v[0] + v[1]) + (v[2] + v[3]);
                cell[1] += (v[4] + v[5]) + (v[6] + v[7]);
            }
            for (unsigned left = mend; left; left &= left - 1) {
                const int i = __ffs(left) - 1, bad = p.place[row + s + i];
                for (int n = start < 0 ? 0 : start; n < smaller(start + STRIP, lines); ++n) {
                    if (!valid[n])
                        continue;
                    const float v = mended(p, n, bad, s + i), scale = scale_of(p, n);
                    cut += store_one(p.out, ((long long)n * p.bands + b) * p.samples + s + i, v,
                                     times(scale, p.kind), p.kind);
                    cell[0] += i < 4 && v == v ? v * scale : 0.0f;
                    cell[1] += i >= 4 && v == v ? v * scale : 0.0f;
                }
            }
            if (p.preview) {
                float *to = p.sums + ((long long)k * p.bands + b) * cells + s / STRIP;
                if constexpr (ALIGNED) {
                    __stcs((float2 *)to, make_float2(cell[0], cell[1]));
                } else {
                    to[0] = cell[0];
                    if (s + STRIP < p.samples)
                        to[1] = cell[1];
                }
            }
        }
    }

    cut = warp_sum(cut);
    if (t % WARP == 0 && cut)
        atomicAdd(&share_cut, cut);
    __syncthreads();
    for (int i = t; i < 2 * LINES * QUADS; i += THREADS) {
        const unsigned four = share[i];
        if (!four)
            continue;
        const int line = first_strip * STRIP + i / QUADS % LINES;
        unsigned *to = (i < LINES * QUADS ? p.bright : p.dim) + (long long)line * p.samples +
                       blockIdx.x * SPAN + i % QUADS * 4;
        UNROLL
        for (int j = 0; j < 4; ++j)
            if (four >> 8 * j & 255u)
                atomicAdd(to + j, four >> 8 * j & 255u);
    }
    const long long cellar = (long long)blockIdx.x * gridDim.y + blockIdx.y;
    if (t == 0 && share_cut)
        atomicAdd(&p.cutting[cellar], share_cut);
    __threadfence();  // what was counted here is seen before the ticket is taken
    __syncthreads();
    if (t == 0)
        share_last = atomicAdd(&p.tickets[cellar], 1u) == gridDim.z - 1;
    __syncthreads();
    if (!share_last)
        return;
    __threadfence();
    finish_tile(p, valid, lines, phase, first_strip);
    if (t == 0) {
        p.clipped[cellar] = atomicExch(&p.cutting[cellar], 0u);
        p.tickets[cellar] = 0;
    }
}

// The kernels of the CUDA backend: the fused pixel pass, and what the PCA needs before its gemm.
//
// Compiled with NVRTC when the engine is armed, once for the raw type (RAW). The same file also runs
// on the CPU in the tests, through tests/compute/host_shim. docs/compute.md states the semantics;
// pipeline/compute/tables.py makes the arrays. Compiled without contraction to fused multiply-adds,
// so that every product and sum rounds as on the CPU.
//
// Layout everywhere: (lines, bands, samples), C order; consecutive threads take consecutive samples.

#ifndef RAW
#define RAW unsigned short
#endif
#ifndef TILE
#define TILE 128  // threads of a block, samples side by side; a multiple of STRIP
#endif
#ifndef NOT_A_NUMBER
#define NOT_A_NUMBER __int_as_float(0x7fffffff)
#endif
#define STRIP 4  // lines worked on together: those of one row of the finest preview

enum Kind { NONE = 0, INT16 = 1, UINT16 = 2, FLOAT32 = 3 };

// Stores one reflectance; returns 1 when it was clipped to the limits of its type.
__device__ inline unsigned store(void *out, long long at, float v, int kind)
{
    const float x = v * 10000.0f;
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
        ((float *)out)[at] = v;
    return 0;
}

// Correction, counts and preview sums of strips strip_first … strip_first + gridDim.y − 1.
//
// grid: x tiles of samples, y strips, z groups of bands_each bands.
// bright, dim: counters (lines, samples), zeroed before. sums: (strips, bands, cells), every cell of
// these strips is written. clipped: one counter, zeroed before.
extern "C" __global__ void pass_pixels(
    const RAW *__restrict__ raw, const unsigned char *__restrict__ valid,
    const float *__restrict__ black, const float *__restrict__ gain, void *__restrict__ out,
    unsigned *__restrict__ bright, unsigned *__restrict__ dim, float *__restrict__ sums,
    unsigned *__restrict__ clipped, int lines, int bands, int samples, int strip_first, int phase,
    int bands_each, int level, int dark, int kind, int preview)
{
    // two tiles in turn: one barrier for each band is enough
    __shared__ float tile[2][TILE];
    const int t = threadIdx.x;
    const int s = blockIdx.x * TILE + t;
    const int k = strip_first + blockIdx.y;
    const int first_band = blockIdx.z * bands_each;
    const int last_band = first_band + bands_each < bands ? first_band + bands_each : bands;
    const int start = k * STRIP - phase;
    const int cells = (samples + STRIP - 1) / STRIP;
    unsigned hit[STRIP] = {0}, low[STRIP] = {0}, cut = 0;

    for (int b = first_band; b < last_band; ++b) {
        float total = 0.0f;
        if (s < samples) {
            const float black_here = black[(long long)b * samples + s];
            const float gain_here = gain[(long long)b * samples + s];
            for (int j = 0; j < STRIP; ++j) {
                const int n = start + j;
                if (n < 0 || n >= lines)
                    continue;
                const long long at = ((long long)n * bands + b) * samples + s;
                if (!valid[n]) {
                    store(out, at, NOT_A_NUMBER, kind);
                    continue;
                }
                const RAW count = raw[at];
                hit[j] += level >= 0 && (int)count >= level;
                low[j] += dark && (float)count < black_here;
                const float v = ((float)count - black_here) * gain_here;
                total += v == v ? v : 0.0f;
                cut += store(out, at, v, kind);
            }
        }
        if (preview) {
            float *row = tile[b & 1];
            row[t] = total;
            __syncthreads();
            if (t % STRIP == 0 && s < samples) {
                float cell = row[t];
                for (int j = 1; j < STRIP; ++j)
                    cell += row[t + j];  // beyond the last sample these are 0
                sums[((long long)k * bands + b) * cells + s / STRIP] = cell;
            }
        }
    }
    if (s < samples)
        for (int j = 0; j < STRIP; ++j) {
            const long long at = (long long)(start + j) * samples + s;
            if (hit[j])
                atomicAdd(&bright[at], hit[j]);
            if (low[j])
                atomicAdd(&dim[at], low[j]);
        }
    if (cut)
        atomicAdd(clipped, cut);
}

// Bad pixels, after pass_pixels: they count as nothing else and take their neighbours' value.
//
// grid: x over the rows of fix (band, sample, band below, band above), y lines line_first ….
extern "C" __global__ void replace_bad(
    const RAW *__restrict__ raw, const unsigned char *__restrict__ valid,
    const float *__restrict__ black, const float *__restrict__ gain, void *__restrict__ out,
    unsigned *__restrict__ bright, unsigned *__restrict__ dim, float *__restrict__ sums,
    unsigned *__restrict__ clipped, const int *__restrict__ fix, const float *__restrict__ weight,
    int fixes, int bands, int samples, int line_first, int phase, int level, int dark, int kind,
    int preview)
{
    const int i = blockIdx.x * TILE + threadIdx.x;
    const int n = line_first + blockIdx.y;
    if (i >= fixes || !valid[n])
        return;
    const int b = fix[4 * i], s = fix[4 * i + 1], below = fix[4 * i + 2], above = fix[4 * i + 3];
    const RAW *line = raw + (long long)n * bands * samples;
    const long long here = (long long)b * samples + s;
    const unsigned less_one = 0xffffffffu;
    if (level >= 0 && (int)line[here] >= level)
        atomicAdd(&bright[(long long)n * samples + s], less_one);
    if (dark && (float)line[here] < black[here])
        atomicAdd(&dim[(long long)n * samples + s], less_one);
    if (below < 0)
        return;
    const long long lo = (long long)below * samples + s, hi = (long long)above * samples + s;
    const float v = ((float)line[lo] - black[lo]) * gain[lo];
    const float w = ((float)line[hi] - black[hi]) * gain[hi];
    const float mended = v + (w - v) * weight[i];
    if (store(out, (long long)n * bands * samples + here, mended, kind))
        atomicAdd(clipped, 1u);
    if (preview) {
        const int cells = (samples + STRIP - 1) / STRIP;
        const int k = (n + phase) / STRIP;
        atomicAdd(&sums[((long long)k * bands + b) * cells + s / STRIP], mended);
    }
}

// The quality mask (lines, 6, samples) and the totals of lines, from the counters.
//
// grid: x tiles of samples, y lines line_first …. saturated, below: (lines,), zeroed before.
extern "C" __global__ void finish_lines(
    const unsigned char *__restrict__ valid, const unsigned *__restrict__ bright,
    const unsigned *__restrict__ dim, const unsigned char *__restrict__ planes,
    unsigned char *__restrict__ quality, unsigned *__restrict__ saturated,
    unsigned *__restrict__ below, int bands, int samples, int line_first, int mask)
{
    __shared__ unsigned share[2][TILE];
    const int t = threadIdx.x;
    const int s = blockIdx.x * TILE + t;
    const int n = line_first + blockIdx.y;
    const bool inside = s < samples;
    const unsigned hit = inside ? bright[(long long)n * samples + s] : 0;
    const unsigned low = inside ? dim[(long long)n * samples + s] : 0;
    if (mask && inside) {
        unsigned char *to = quality + (long long)n * 6 * samples + s;
        const bool ok = valid[n];
        to[0] = hit < 255 ? hit : 255;
        to[1 * samples] = ok ? planes[s] : 0;
        to[2 * samples] = low < 255 ? low : 255;
        to[3 * samples] = ok ? planes[samples + s] : 0;
        to[4 * samples] = ok ? planes[2 * samples + s] : 0;
        to[5 * samples] = ok ? 0 : bands < 255 ? bands : 255;
    }
    share[0][t] = hit;
    share[1][t] = low;
    __syncthreads();
    if (t < 2) {
        unsigned total = 0;
        for (int j = 0; j < TILE; ++j)
            total += share[t][j];
        if (total)
            atomicAdd(t ? &below[n] : &saturated[n], total);
    }
}

// Counts of chosen lines as float32, each every-th sample: x (chosen, bands, width).
//
// grid: x tiles of width, y bands, z chosen lines.
extern "C" __global__ void widen(
    const RAW *__restrict__ kept, const int *__restrict__ chosen, float *__restrict__ x, int bands,
    int samples, int width, int every)
{
    const int s = blockIdx.x * TILE + threadIdx.x;
    const int b = blockIdx.y, n = blockIdx.z;
    if (s < width)
        x[((long long)n * bands + b) * width + s] =
            (float)kept[((long long)chosen[n] * bands + b) * samples + (long long)s * every];
}

// Bad pixels in x, after widen: the counts of their neighbours along the spectrum.
//
// grid: x over the rows of fix, y chosen lines.
extern "C" __global__ void mend(
    float *__restrict__ x, const int *__restrict__ fix, const float *__restrict__ weight, int fixes,
    int bands, int width, int every)
{
    const int i = blockIdx.x * TILE + threadIdx.x;
    if (i >= fixes)
        return;
    const int b = fix[4 * i], s = fix[4 * i + 1], below = fix[4 * i + 2], above = fix[4 * i + 3];
    if (below < 0 || s % every)
        return;
    float *spectrum = x + (long long)blockIdx.y * bands * width + s / every;
    const float v = spectrum[(long long)below * width];
    const float w = spectrum[(long long)above * width];
    spectrum[(long long)b * width] = v + (w - v) * weight[i];
}

// Subtracts a spectrum from each in x; one with a count at or above level becomes 0 and is not
// counted in used (zeroed before).
//
// grid: x tiles of width, y chosen lines.
extern "C" __global__ void centre(
    float *__restrict__ x, const float *__restrict__ shift, unsigned *__restrict__ used, int bands,
    int width, float level)
{
    const int s = blockIdx.x * TILE + threadIdx.x;
    if (s >= width)
        return;
    float *spectrum = x + (long long)blockIdx.y * bands * width + s;
    bool ok = true;
    for (int b = 0; b < bands; ++b)
        ok = ok && spectrum[(long long)b * width] < level;
    for (int b = 0; b < bands; ++b) {
        const long long at = (long long)b * width;
        spectrum[at] = ok ? spectrum[at] - shift[b] : 0.0f;
    }
    if (ok)
        atomicAdd(used, 1u);
}

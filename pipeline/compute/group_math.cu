// What the principal components need around their gemms: lines kept, counts in float32 about a
// spectrum, float64 sums of products, and scores as int16. Knows raw_pixels.h.
//
// Kept lines are counts (RAW), (lines, bands, samples). Bad pixels take the count of their
// neighbours along the spectrum: place (bands, samples) is a row of fix, or −1.

// Lines of the loaded block as counts, where the block is packed. grid: x pixels, y lines.
extern "C" __global__ void keep(const unsigned char *raw, RAW *kept, long long pitch,
                                long long pixels)
{
    const long long pixel = ((long long)blockIdx.x * THREADS + threadIdx.x) * VECTOR;
    if (pixel >= pixels)
        return;
    const Words words = fetch(raw + blockIdx.y * pitch, pixel);
    RAW *to = kept + blockIdx.y * pixels + pixel;
    UNROLL
    for (int i = 0; i < VECTOR; ++i)
        if (ALIGNED || pixel + i < pixels)
            to[i] = (RAW)count_of(words, i, pixel);
}

// The value of a bad pixel: row of fix, of a kept line.
__device__ inline float mended_count(const RAW *line, const int *fix, const float *weight, int row,
                                     int samples, int sample)
{
    const float v = (float)line[(long long)fix[4 * row + 2] * samples + sample];
    const float w = (float)line[(long long)fix[4 * row + 3] * samples + sample];
    return v + (w - v) * weight[row];
}

// All spectra of lines, minus one: x (lines, bands, samples).
//
// grid: x tiles of SPAN samples, y groups of ROWS bands, z groups of STRIP lines.
extern "C" __global__ void centre_lines(const RAW *kept, const int *place, const int *fix,
                                        const float *weight, const float *about, float *x,
                                        int fixes, int lines, int bands, int samples)
{
    const int s = blockIdx.x * SPAN + threadIdx.x % LANES * VECTOR;
    const int b = blockIdx.y * ROWS + threadIdx.x / LANES;
    if (b >= bands || s >= samples)
        return;
    const float mean = __ldg(about + b);
    const long long row = (long long)b * samples;
    unsigned mend = 0;
    if (fixes)
        UNROLL
        for (int i = 0; i < VECTOR; ++i)
            mend |= (unsigned)(s + i < samples && __ldg(place + row + s + i) >= 0) << i;
    for (int j = 0; j < STRIP; ++j) {
        const int n = blockIdx.z * STRIP + j;
        if (n >= lines)
            break;
        const RAW *line = kept + (long long)n * bands * samples;
        float v[VECTOR];
        UNROLL
        for (int i = 0; i < VECTOR; ++i)
            v[i] = s + i < samples ? (float)line[row + s + i] - mean : 0.0f;
        float *to = x + (long long)n * bands * samples + row;
        store_row(to, s, samples, v);
        for (unsigned left = mend; left; left &= left - 1) {
            const int i = __ffs(left) - 1, bad = place[row + s + i];
            if (fix[4 * bad + 2] >= 0)
                to[s + i] = mended_count(line, fix, weight, bad, samples, s + i) - mean;
        }
    }
}

// Each every-th spectrum of chosen lines, minus one: x (chosen, bands, width). A spectrum with a
// count at or above level becomes 0 and is not counted in used.
//
// grid: x tiles of WARP spectra, y chosen lines; THREADS / WARP bands at a time.
extern "C" __global__ void centre_chosen(const RAW *kept, const int *place, const int *fix,
                                         const float *weight, const float *about,
                                         const int *chosen, float *x, unsigned *used, int fixes,
                                         int bands, int samples, int width, int every, float level)
{
    __shared__ unsigned left_out[WARP];
    const int lane = threadIdx.x % WARP, first = threadIdx.x / WARP;
    const int column = blockIdx.x * WARP + lane, s = column * every;
    const bool inside = column < width;
    const RAW *line = kept + (long long)chosen[blockIdx.y] * bands * samples;
    if (first == 0)
        left_out[lane] = !inside;
    __syncthreads();
    bool bright = false;
    for (int b = first; inside && b < bands; b += THREADS / WARP) {
        const long long at = (long long)b * samples + s;
        const int row = fixes ? place[at] : -1;
        // what is replaced lies between its neighbours, which are looked at themselves
        bright |= (row < 0 || fix[4 * row + 2] < 0) && !((float)line[at] < level);
    }
    if (bright)
        atomicExch(&left_out[lane], 1u);
    __syncthreads();
    const bool ok = !left_out[lane];
    float *to = x + (long long)blockIdx.y * bands * width + column;
    for (int b = first; inside && b < bands; b += THREADS / WARP) {
        const long long at = (long long)b * samples + s;
        const int row = fixes ? place[at] : -1;
        const bool mend = row >= 0 && fix[4 * row + 2] >= 0;
        const float v = mend ? mended_count(line, fix, weight, row, samples, s) : (float)line[at];
        to[(long long)b * width] = ok ? v - about[b] : 0.0f;
    }
    if (first == 0) {
        const unsigned count = warp_sum((unsigned)ok);
        if (lane == 0 && count)
            atomicAdd(used, count);
    }
}

// Adds float32 spectra and products of lines to float64 sums: first[b] += Σ x[n, b], second[b] +=
// Σ products[n, b]. With triangle the products are only there where the column is not below the row.
//
// grid: x bands.
extern "C" __global__ void add_moments(const float *x, const float *products, double *first,
                                       double *second, int lines, int bands, int width, int triangle)
{
    __shared__ double part[THREADS / WARP];
    const int b = blockIdx.x, t = threadIdx.x;
    for (int c = t; c < bands; c += THREADS) {
        const int low = triangle ? smaller(b, c) : b, high = b + c - low;
        const float *from = products + (long long)low * bands + high;
        double sum = 0;
        for (int n = 0; n < lines; ++n)
            sum += (double)from[(long long)n * bands * bands];
        second[(long long)b * bands + c] += sum;
    }
    double sum = 0;
    for (int n = 0; n < lines; ++n)
        for (int s = t; s < width; s += THREADS)
            sum += (double)x[((long long)n * bands + b) * width + s];
    sum = warp_sum(sum);
    if (t % WARP == 0)
        part[t / WARP] = sum;
    __syncthreads();
    if (t == 0) {
        for (int i = 1; i < THREADS / WARP; ++i)
            sum += part[i];
        first[b] += sum;
    }
}

// The greatest |score| of each component over the valid lines, as bits, in peak (0 before).
//
// grid: x components, y lines. scores (lines, components, samples).
extern "C" __global__ void peak_scores(const float *scores, const unsigned char *valid,
                                       unsigned *peak, int components, int samples)
{
    const int k = blockIdx.x, n = blockIdx.y;
    if (!valid[n])
        return;
    const float *row = scores + ((long long)n * components + k) * samples;
    float most = 0.0f;
    for (int s = threadIdx.x; s < samples; s += THREADS)
        most = fmaxf(most, fabsf(row[s]));
    most = warp_max(most);
    if (threadIdx.x % WARP == 0)
        atomicMax(&peak[k], __float_as_uint(most));  // bits of floats from 0 up are in their order
}

// Scores as multiples of a step that is doubled until the greatest fits int16; 0 in lost lines.
//
// grid: x components, y lines. scale is 1 / step; longer (components,) gets the powers of two.
extern "C" __global__ void round_scores(const float *scores, const unsigned char *valid,
                                        const unsigned *peak, short *out, float *longer,
                                        float scale, int components, int samples)
{
    const int k = blockIdx.x, n = blockIdx.y;
    const float most = __uint_as_float(peak[k]);
    float more = 1.0f;
    while (rintf(most * (scale / more)) > 32767.0f && more < 1e30f)
        more *= 2.0f;
    if (n == 0 && threadIdx.x == 0)
        longer[k] = more;
    const float *from = scores + ((long long)n * components + k) * samples;
    short *to = out + ((long long)n * components + k) * samples;
    for (int s = threadIdx.x; s < samples; s += THREADS)
        to[s] = valid[n] ? (short)(int)rintf(from[s] * (scale / more)) : (short)0;
}

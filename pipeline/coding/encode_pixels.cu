// Pixels of a block to what is coded of them: scores, the residual of what a decoder makes of those,
// and how far the decoded block is from the pixels. Knows coded_rows.h.

// Rows about a shift each, float32; columns whose flag is 0 become 0. No flags: all stay.
extern "C" __global__ void centre(const PIXEL *rows, const int *means, const byte *learned,
                                  float *out, wide columns, wide count)
{
    const wide i = (wide)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count)
        out[i] = learned && !learned[i % columns]
                     ? 0.0f
                     : (float)rows[i] - (float)means[i / columns];
}

// Adds products of parts of the columns up in float64.
extern "C" __global__ void add_products(const float *products, double *sums, unsigned parts,
                                        wide size, unsigned more)
{
    const wide i = (wide)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size)
        return;
    double sum = more ? sums[i] : 0.0;
    for (unsigned part = 0; part < parts; ++part)
        sum += (double)products[part * size + i];
    sums[i] = sum;
}

// Rounds scores, in steps, toward zero from add more than they are. For each chunk: the squared
// error, in steps, that they save, and how many are not 0; for each component the largest magnitude.
extern "C" __global__ void round_scores(const float *exact, int *scores, float scale, float add,
                                        float *saved, unsigned *hits, unsigned *tops, wide columns)
{
    const wide chunk = (wide)blockDim.x * ITEMS, chunks = (columns + chunk - 1) / chunk;
    const wide row = blockIdx.x / chunks, first = blockIdx.x % chunks * chunk;
    float save = 0.0f;
    unsigned hit = 0, top = 0;
    for (unsigned j = 0; j < ITEMS; ++j) {
        const wide i = first + j * blockDim.x + threadIdx.x;
        if (i >= columns)
            break;
        const float value = exact[row * columns + i] * scale;
        const float size = value < 0.0f ? -value : value;
        const float whole = floorf(size + add), steps = whole < 2147483520.0f ? whole : 2147483520.0f;
        save += steps * (2.0f * size - steps);
        hit += steps > 0.0f;
        scores[row * columns + i] = value < 0.0f ? -(int)steps : (int)steps;
        top = (unsigned)steps > top ? (unsigned)steps : top;
    }
    keep_greatest(tops + row, top);
    save = block_sum(save);
    hit = block_sum(hit);
    if (threadIdx.x == 0) {
        saved[blockIdx.x] = save;
        hits[blockIdx.x] = hit;
    }
}

// Quantises what decoded rows lack, and adds it to them as a decoder does; what is masked has none.
extern "C" __global__ void take_residual(const PIXEL *rows, PIXEL *decoded, const byte *masked,
                                         int *coded, unsigned bound, int least, int most, wide count)
{
    const wide i = (wide)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count)
        return;
    const int lacks = (int)rows[i] - (int)decoded[i], width = 2 * (int)bound + 1;
    int units = (int)((magnitude(lacks) + bound) / (unsigned)width);
    units = masked && masked[i] ? 0 : lacks < 0 ? -units : units;
    const int value = (int)decoded[i] + units * width;
    coded[i] = units;
    decoded[i] = (PIXEL)(value < least ? least : value > most ? most : value);
}

// Of each pixel's spectrum a and its error e: a · a, a · e, e · e, whole numbers; and the largest
// error of all.
extern "C" __global__ void measure(const PIXEL *block, const PIXEL *decoded, long long *sums,
                                   unsigned *top, unsigned bands, unsigned samples, wide pixels)
{
    const wide pixel = (wide)blockIdx.x * blockDim.x + threadIdx.x;
    unsigned largest = 0;
    if (pixel < pixels) {
        const wide first = pixel / samples * bands * samples + pixel % samples;
        long long aa = 0, ae = 0, ee = 0;
        for (unsigned band = 0; band < bands; ++band) {
            const int a = block[first + (wide)band * samples];
            const int e = decoded[first + (wide)band * samples] - a;
            aa += (long long)a * a;
            ae += (long long)a * e;
            ee += (long long)e * e;
            largest = magnitude(e) > largest ? magnitude(e) : largest;
        }
        sums[pixel] = aa;
        sums[pixels + pixel] = ae;
        sums[2 * pixels + pixel] = ee;
    }
    keep_greatest(top, largest);
}

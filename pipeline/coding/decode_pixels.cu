// Values of a block to pixels: the matrix of what is fitted, rows of bands and columns of spectra,
// then what is apart. Whole numbers throughout, so any GPU gives what a CPU gives. Knows coded_rows.h.

#define ROWS_EACH 8   // rows of the matrix that a thread works on
#define PREVIOUS 32   // rows that one is predicted from at most
#define COLUMNS 128   // threads of a block that predicts, at most

// The matrix of a block; cuda_decode.py has the same fields.
struct Matrix {
    const int *first;      // PCA: basis, (count, rows) in 2⁻¹⁵; prediction: weights, (count, rows)
    const int *scores;     // PCA: (count, columns), in steps
    const int *residual;   // (rows, columns), in units of factor; PCA: or null
    const int *means;      // (rows,)
    const byte *bits;      // prediction: (rows,) bits after the point of a row's weights
    PIXEL *out;            // (rows, columns)
    wide columns;
    unsigned rows, count, step, factor;  // step of the scores in 1/16 counts; factor: 2 d + 1
    int least, most;       // of the pixels' type
};

__device__ inline long long limited(long long value, long long least, long long most)
{
    return value < least ? least : value > most ? most : value;
}

// mean + ⌊Σ basis · score · step / 2¹⁹ + ½⌋, clipped; with a residual that is added, modulo 2³², and
// the sum clipped. A sum that would not fit 2⁵² is refused afterwards; until then it may wrap.
extern "C" __global__ void settle(Matrix m)
{
    const unsigned groups = (m.rows + ROWS_EACH - 1) / ROWS_EACH;
    const unsigned row = blockIdx.x % groups * ROWS_EACH;
    const wide column = (wide)(blockIdx.x / groups) * blockDim.x + threadIdx.x;
    if (column >= m.columns)
        return;
    wide sums[ROWS_EACH] = {};
    const unsigned rows = m.rows - row < ROWS_EACH ? m.rows - row : ROWS_EACH;
    for (unsigned k = 0; k < m.count; ++k) {
        const long long score = m.scores[k * m.columns + column];
        const int *basis = m.first + (wide)k * m.rows + row;
        UNROLL
        for (unsigned i = 0; i < ROWS_EACH; ++i)
            if (i < rows)
                sums[i] += (wide)(score * __ldg(basis + i));
    }
    UNROLL
    for (unsigned i = 0; i < ROWS_EACH; ++i) {
        if (i >= rows)
            break;
        const long long exact = (long long)(sums[i] * m.step + (1u << 18)) >> 19;
        long long value = limited(exact + m.means[row + i], m.least, m.most);
        const wide at = (wide)(row + i) * m.columns + column;
        if (m.residual) {
            const unsigned sum = (unsigned)value + (unsigned)m.residual[at] * m.factor;
            value = limited((int)sum, m.least, m.most);
        }
        m.out[at] = (PIXEL)value;
    }
}

// Rows in sequence, a column a thread: each row from up to PREVIOUS before it. Sums of products are
// modulo 2³²; what is coded is added to them in full.
extern "C" __global__ void restore(Matrix m)
{
    __shared__ int before[PREVIOUS][COLUMNS];
    const wide column = (wide)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= m.columns)
        return;
    for (unsigned row = 0; row < m.rows; ++row) {
        const unsigned count = row < m.count ? row : m.count;
        const int down = m.bits[row], mean = m.means[row];
        unsigned sum = (1u << down) >> 1;
        for (unsigned i = 0; i < count; ++i)
            sum += (unsigned)__ldg(m.first + (wide)i * m.rows + row) *
                   (unsigned)before[(row - 1 - i) % PREVIOUS][threadIdx.x];
        const wide at = row * m.columns + column;
        const long long coded = (long long)m.residual[at] * m.factor;
        const long long value = limited(((int)sum >> down) + coded, (long long)m.least - mean,
                                        (long long)m.most - mean);
        before[row % PREVIOUS][threadIdx.x] = (int)value;
        m.out[at] = (PIXEL)(value + mean);
    }
}

// What is masked; places are in order and all different.
extern "C" __global__ void put_masked(PIXEL *matrix, const unsigned *places, const PIXEL *values,
                                      unsigned count)
{
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count)
        matrix[places[i]] = values[i];
}

// Bands that are apart, from differences to values, modulo their type; a block of threads a band.
extern "C" __global__ void add_up(PIXEL *bands, wide pixels)
{
    __shared__ unsigned sums[MOST_THREADS];
    PIXEL *band = bands + blockIdx.x * pixels;
    const wide each = (pixels + blockDim.x - 1) / blockDim.x, first = each * threadIdx.x;
    const wide end = first + each < pixels ? first + each : pixels;
    unsigned sum = 0;
    for (wide i = first; i < end; ++i)
        sum += (unsigned)band[i];
    sums[threadIdx.x] = sum;
    __syncthreads();
    sum = 0;
    for (unsigned t = 0; t < threadIdx.x; ++t)
        sum += sums[t];
    for (wide i = first; i < end; ++i) {
        sum += (unsigned)band[i];
        band[i] = (PIXEL)sum;
    }
}

// Puts a block together, (lines, bands, samples); a block of threads for each line of a band.
// from: for each band the row of the matrix, or −1 − the number of the band that is apart;
// columns: for each pixel its column, or null where they are the same.
extern "C" __global__ void put_together(const PIXEL *matrix, const PIXEL *aside, const int *from,
                                        const unsigned *columns, PIXEL *out, wide matrix_columns,
                                        unsigned bands, unsigned samples, wide pixels)
{
    const unsigned line = blockIdx.x / bands, band = blockIdx.x % bands;
    const int row = from[band];
    const PIXEL *source = row < 0 ? aside + (wide)(-1 - row) * pixels : matrix + row * matrix_columns;
    PIXEL *to = out + (wide)blockIdx.x * samples;
    for (unsigned s = threadIdx.x; s < samples; s += blockDim.x) {
        const wide pixel = (wide)line * samples + s;
        to[s] = source[row >= 0 && columns ? columns[pixel] : pixel];
    }
}

// The kernels of pipeline/compute/pixel_pass.cu as plain C functions that launch them on the CPU.
// KERNELS is the path of that very file. Each function takes the grid first, then the kernel's own
// arguments.
#include "device_on_host.h"

#include KERNELS

#define ON_HOST(name)                                                                               \
    template <typename... A> void name##_any(unsigned x, unsigned y, unsigned z, A... a)            \
    {                                                                                               \
        launch({x, y, z}, {TILE, 1, 1}, [=] { name(a...); });                                       \
    }
ON_HOST(pass_pixels)
ON_HOST(replace_bad)
ON_HOST(finish_lines)
ON_HOST(widen)
ON_HOST(mend)
ON_HOST(centre)

using byte = unsigned char;
using word = unsigned;

extern "C" void host_pass_pixels(
    word x, word y, word z, const RAW *raw, const byte *valid, const float *black,
    const float *gain, void *out, word *bright, word *dim, float *sums, word *clipped, int lines,
    int bands, int samples, int strip_first, int phase, int bands_each, int level, int dark,
    int kind, int preview)
{
    pass_pixels_any(x, y, z, raw, valid, black, gain, out, bright, dim, sums, clipped, lines, bands,
                    samples, strip_first, phase, bands_each, level, dark, kind, preview);
}

extern "C" void host_replace_bad(
    word x, word y, word z, const RAW *raw, const byte *valid, const float *black,
    const float *gain, void *out, word *bright, word *dim, float *sums, word *clipped,
    const int *fix, const float *weight, int fixes, int bands, int samples, int line_first,
    int phase, int level, int dark, int kind, int preview)
{
    replace_bad_any(x, y, z, raw, valid, black, gain, out, bright, dim, sums, clipped, fix, weight,
                    fixes, bands, samples, line_first, phase, level, dark, kind, preview);
}

extern "C" void host_finish_lines(
    word x, word y, word z, const byte *valid, const word *bright, const word *dim,
    const byte *planes, byte *quality, word *saturated, word *below, int bands, int samples,
    int line_first, int mask)
{
    finish_lines_any(x, y, z, valid, bright, dim, planes, quality, saturated, below, bands, samples,
                     line_first, mask);
}

extern "C" void host_widen(
    word x, word y, word z, const RAW *kept, const int *chosen, float *values, int bands,
    int samples, int width, int every)
{
    widen_any(x, y, z, kept, chosen, values, bands, samples, width, every);
}

extern "C" void host_mend(
    word x, word y, word z, float *values, const int *fix, const float *weight, int fixes, int bands,
    int width, int every)
{
    mend_any(x, y, z, values, fix, weight, fixes, bands, width, every);
}

extern "C" void host_centre(
    word x, word y, word z, float *values, const float *shift, word *used, int bands, int width,
    float level)
{
    centre_any(x, y, z, values, shift, used, bands, width, level);
}

// The kernels of pipeline/compute as plain C functions that launch them on the CPU. KERNELS is the
// path of that very source; args[i] points to the value of argument i, as for cuLaunchKernel.
#include "device_on_host.h"

#include KERNELS

#define ON_HOST(name)                                                                               \
    extern "C" void host_##name(unsigned x, unsigned y, unsigned z, unsigned threads, void **args)  \
    {                                                                                               \
        Call call{name, args};                                                                      \
        launch({x, y, z}, threads, WARP, call.run, &call);                                          \
    }
ON_HOST(pass_pixels)
ON_HOST(keep)
ON_HOST(centre_lines)
ON_HOST(centre_chosen)
ON_HOST(add_moments)
ON_HOST(peak_scores)
ON_HOST(round_scores)

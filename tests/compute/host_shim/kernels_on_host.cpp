// Kernels as plain C functions that launch them on the CPU. KERNELS is the path of their very source,
// with EVERY_KERNEL, an ON_HOST for each, at its end; args[i] points to the value of argument i, as
// for cuLaunchKernel.
#include "device_on_host.h"

#include KERNELS

#define ON_HOST(name)                                                                               \
    extern "C" void host_##name(unsigned x, unsigned y, unsigned z, unsigned threads, void **args)  \
    {                                                                                               \
        Call call{name, args};                                                                      \
        launch({x, y, z}, threads, WARP, call.run, &call);                                          \
    }
EVERY_KERNEL

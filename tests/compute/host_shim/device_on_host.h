// Enough of CUDA's C++ to run a kernel on the CPU: one std::thread for each CUDA thread of a block,
// a real barrier for a block and for each warp, real atomics. Blocks of a grid run one after the
// other, so a __shared__ array can be a static one. Included before the .cu files under test; knows
// nothing of them, and computes nothing. threads_on_host.cpp has what needs threads.
#pragma once

#include <cmath>

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

extern thread_local dim3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

// Waits for all threads of the block.
void meet_block();
// Shows a value to the other lanes of the warp, and gives that of a lane; all of them must call it.
double meet_warp(double value, int from);
// Gives every lane a bit for each lane of its warp whose value is true; all of them must call it.
unsigned meet_vote(bool value);
// Runs kernel(data) for every thread of every block.
void launch(dim3 grid, unsigned threads, int warp, void (*kernel)(void *), void *data);

#define __global__
#define __device__
#define __launch_bounds__(...)
#define __shared__ static
#define NOT_A_NUMBER __builtin_nanf("")

inline void __syncthreads() { meet_block(); }
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline unsigned atomicAdd(unsigned *at, unsigned value)
{
    return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST);
}
inline unsigned long long atomicAdd(unsigned long long *at, unsigned long long value)
{
    return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST);
}
inline unsigned atomicOr(unsigned *at, unsigned value)
{
    return __atomic_fetch_or(at, value, __ATOMIC_SEQ_CST);
}
inline unsigned atomicExch(unsigned *at, unsigned value)
{
    return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST);
}
inline unsigned atomicMax(unsigned *at, unsigned value)
{
    unsigned found = __atomic_load_n(at, __ATOMIC_SEQ_CST);
    while (found < value && !__atomic_compare_exchange_n(at, &found, value, true, __ATOMIC_SEQ_CST,
                                                         __ATOMIC_SEQ_CST)) {
    }
    return found;
}
template <typename T> inline T __ldg(const T *at) { return *at; }
template <typename T> inline void __stcs(T *at, T value) { *at = value; }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline unsigned __ballot_sync(unsigned, bool value) { return meet_vote(value); }
inline int __ffs(unsigned bits) { return __builtin_ffs((int)bits); }
inline unsigned __float_as_uint(float value) { return __builtin_bit_cast(unsigned, value); }
inline float __uint_as_float(unsigned bits) { return __builtin_bit_cast(float, bits); }

// A double holds floats and 32-bit integers exactly. A lane beyond the warp gives the caller's own.
template <typename T> inline T shuffle_down(T value, unsigned distance, unsigned warp)
{
    const unsigned lane = threadIdx.x % warp;
    return (T)meet_warp((double)value, (int)(lane + distance < warp ? lane + distance : lane));
}
#define __shfl_down_sync(mask, value, distance) shuffle_down((value), (distance), WARP)

template <typename F> struct Call;
template <typename... A> struct Call<void (*)(A...)> {
    void (*kernel)(A...);
    void **args;
    template <int... I> struct Numbers {};
    template <int N, int... I> struct Count : Count<N - 1, N - 1, I...> {};
    template <int... I> struct Count<0, I...> { using all = Numbers<I...>; };
    template <int... I> void call(Numbers<I...>) { kernel(*static_cast<A *>(args[I])...); }
    static void run(void *self)
    {
        static_cast<Call *>(self)->call(typename Count<sizeof...(A)>::all{});
    }
};
template <typename F> Call(F, void **) -> Call<F>;

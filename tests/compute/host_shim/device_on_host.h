// Enough of CUDA's C++ to run a kernel on the CPU: one std::thread for each CUDA thread of a block,
// a real barrier, real atomics. Blocks of a grid run one after the other, so a __shared__ array can
// be a static one. Included before the .cu file under test; knows nothing of it.
#pragma once

#include <atomic>
#include <barrier>
#include <cmath>
#include <thread>
#include <vector>

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

inline thread_local dim3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
inline std::barrier<> *block_barrier;

#define __global__
#define __device__
#define __shared__ static
#define NOT_A_NUMBER __builtin_nanf("")

inline void __syncthreads() { block_barrier->arrive_and_wait(); }

template <typename T> inline T atomicAdd(T *at, T value)
{
    return std::atomic_ref<T>(*at).fetch_add(value);
}

// Runs kernel() for every thread of every block.
template <typename Kernel> void launch(dim3 grid, dim3 block, Kernel kernel)
{
    gridDim = grid;
    blockDim = block;
    std::barrier<> barrier(block.x);
    block_barrier = &barrier;
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < block.x; ++t)
        threads.emplace_back([=, &barrier] {
            threadIdx = {t, 0, 0};
            for (unsigned z = 0; z < grid.z; ++z)
                for (unsigned y = 0; y < grid.y; ++y)
                    for (unsigned x = 0; x < grid.x; ++x) {
                        blockIdx = {x, y, z};
                        kernel();
                        barrier.arrive_and_wait();
                    }
        });
    for (auto &thread : threads)
        thread.join();
}

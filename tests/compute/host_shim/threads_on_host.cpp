// The threads behind device_on_host.h: compiled once, linked with every variant of the kernels.
#include "device_on_host.h"

#include <barrier>
#include <memory>
#include <thread>
#include <vector>

thread_local dim3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

// A warp's threads meet here, and leave what they show each other.
struct Warp {
    explicit Warp(int size) : barrier(size), shown(size) {}
    std::barrier<> barrier;
    std::vector<double> shown;
};
static std::barrier<> *block_barrier;
static std::vector<std::unique_ptr<Warp>> warps;
static unsigned warp_size;

void meet_block() { block_barrier->arrive_and_wait(); }

double meet_warp(double value, int from)
{
    Warp &warp = *warps[threadIdx.x / warp_size];
    warp.shown[threadIdx.x % warp_size] = value;
    warp.barrier.arrive_and_wait();
    const double result = warp.shown[from];
    warp.barrier.arrive_and_wait();
    return result;
}

unsigned meet_vote(bool value)
{
    Warp &warp = *warps[threadIdx.x / warp_size];
    warp.shown[threadIdx.x % warp_size] = value;
    warp.barrier.arrive_and_wait();
    unsigned votes = 0;
    for (unsigned lane = 0; lane < warp_size; ++lane)
        votes |= (warp.shown[lane] != 0) << lane;
    warp.barrier.arrive_and_wait();
    return votes;
}

void launch(dim3 grid, unsigned count, int warp, void (*kernel)(void *), void *data)
{
    gridDim = grid;
    blockDim = {count, 1, 1};
    std::barrier<> barrier(count);
    block_barrier = &barrier;
    warp_size = warp;
    warps.clear();
    for (unsigned t = 0; t < count; t += warp)
        warps.push_back(std::make_unique<Warp>(warp));
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < count; ++t)
        threads.emplace_back([=, &barrier] {
            threadIdx = {t, 0, 0};
            for (unsigned z = 0; z < grid.z; ++z)
                for (unsigned y = 0; y < grid.y; ++y)
                    for (unsigned x = 0; x < grid.x; ++x) {
                        blockIdx = {x, y, z};
                        kernel(data);
                        barrier.arrive_and_wait();
                    }
        });
    for (auto &thread : threads)
        thread.join();
}

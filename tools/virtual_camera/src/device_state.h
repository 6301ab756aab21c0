// What processes know of each other about one device: who has it open, and whether it is unplugged.
//
// One small file for each device in a folder. The lock is one of an open file description: it goes
// when its process dies, however it dies, and unlike flock() it can be asked about without taking
// it for a moment, which could make another process's opening fail.
#pragma once

#include <cstdint>
#include <string>

namespace vcam {

class DeviceState {
public:
    explicit DeviceState(const std::string& serial);
    ~DeviceState();
    DeviceState(const DeviceState&) = delete;
    DeviceState& operator=(const DeviceState&) = delete;

    bool lock();                // false when another has it
    void unlock();
    bool locked_elsewhere() const;
    bool absent() const;        // unplugged and not yet back
    void unplug(double for_s);  // counts as a strike
    int64_t strikes() const;    // unpluggings and crashes so far, in all processes
    void strike();

private:
    struct Record {
        int64_t absent_until_ns = 0;  // CLOCK_BOOTTIME, which all processes of a machine share
        int64_t strikes = 0;
    };
    Record load() const;
    void store(const Record& record) const;

    int file_ = -1;
};

}  // namespace vcam

// The camera behind a device: its settings, its clock, its acquisition.
//
// Registers are read and written by consumers' threads under one lock. The acquisition has a thread
// of its own, which never takes that lock: it works from snapshots (Shot) of the settings, which a
// change publishes. Frames go to a sink, the data stream.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <thread>

#include "camera_features.h"
#include "chunks.h"
#include "device_state.h"
#include "encoder.h"
#include "render.h"

namespace vcam {

// Times are those of CLOCK_MONOTONIC, nanoseconds.
int64_t now_ns();

// What is known of a frame in a buffer.
struct FrameInfo {
    uint64_t id = 0, ticks = 0, ns = 0;
    int64_t width = 0, height = 0, x = 0, y = 0, pixel_format = 0;
    size_t padding = 0, filled = 0, delivered_height = 0, image_bytes = 0;
    bool incomplete = false, larger_than_buffer = false;
    uint64_t chunk_layout = 0;
    std::vector<SINGLE_CHUNK_DATA> chunks = {};
};

// Where frames go.
class FrameSink {
public:
    virtual ~FrameSink() = default;
    // Waits until a buffer is queued; false when none is after a while.
    virtual bool await_buffer(int timeout_ms) = 0;
    // Writes a frame into the next queued buffer with `fill`; false when there is none.
    virtual bool deliver(const std::function<FrameInfo(uint8_t*, size_t)>& fill) = 0;
};

struct Identity {
    int index;
    std::string id, model, serial, user_id, tl_type;
    int64_t rows, columns;  // of the sensor, where no scene is given
};

// A snapshot of all that the acquisition needs.
struct Shot {
    View view;
    bool shutter_before = false, shutter_after = false;
    int64_t shutter_ns = 0;
    double rate = 0.0;          // 0: as buffers come
    int64_t exposure_ns = 0, cycle_ns = 0;  // cycle: exposure and readout
    bool acquisition_trigger = false, acquisition_line1 = false;
    bool frame_trigger = false, frame_line1 = false;
    int64_t triggers_per_frame = 1;
    EncoderSettings encoder;
    int64_t frames = 0;  // 0: without end
    bool loop = true;
    int64_t first_line = 0;
    bool chunks_on = false;
    std::vector<ChunkId> chunks = {};
    bool sixteen_bit = false, big_endian_trailers = false;
    int64_t first_id = 0;
    int64_t loss_every = 0, incomplete_every = 0, reset_after = 0;
    int64_t stall_after = 0, stall_ns = 0;
    int64_t unplug_after = 0, unplug_time_ns = 0, crash_after = 0;
    double unplug_for_s = 0.0;
};

class Camera : public Registers {
public:
    Camera(const Identity& identity, std::unique_ptr<DeviceState> state);
    ~Camera() override;

    void set_sink(std::shared_ptr<FrameSink> sink);
    void on_lost(std::function<void()> told);
    bool lost() const { return lost_; }
    bool silent_when_lost() const { return silent_; }
    bool keeps_info_when_lost() const { return keeps_info_; }
    size_t payload_size();
    uint64_t tick_hz() const { return tick_hz_; }
    const Identity& identity() const { return identity_; }
    void stop();
    // Gives the device free for others; nothing can be asked afterwards.
    void release();

protected:
    Value get(int index) override;
    void set(int index, const Value& value) override;
    Limits limits(int index) override;
    bool available(int index) override;
    bool entry_available(int index, int64_t value) override;
    bool locked(int index) override;
    void before_access() override;
    std::string extra_xml() const override { return chunk_xml(); }
    std::vector<std::string> extra_features(const std::string& category) const override;

private:
    int64_t whole(int index) { return stored(index).integer; }
    double real(int index) { return stored(index).real; }
    bool on(int index) { return stored(index).integer != 0; }
    int64_t trigger(int index, int64_t selected) { return stored(index, selected).integer; }

    // settings (camera.cpp)
    void power_on();
    void apply_environment();
    void load_scene();
    void fit_region();
    void set_binning(int index, int64_t value);
    void execute(int index);
    void load_user_set();
    int64_t width_max() { return scene_->samples() / whole(BinningHorizontal); }
    int64_t height_max();
    double readout_us();
    double fastest_rate();
    View make_view();
    std::shared_ptr<const Shot> make_shot();
    void publish();
    std::vector<ChunkId> enabled_chunks();
    double temperature(int64_t selected) const;
    PtpStatusValue ptp_status() const;
    void move_shutter(bool closed, int64_t pulse_ms);
    bool shutter_closed(int64_t at_ns) const;
    uint64_t clock_ns(int64_t at_ns) const;
    uint64_t ticks(uint64_t ns) const;
    void soft_trigger();

    // acquisition (acquisition.cpp)
    void start();
    void run();
    friend class Acquisition;

    Identity identity_;
    std::unique_ptr<DeviceState> state_;
    std::shared_ptr<const Scene> scene_ = {};
    std::map<int, std::vector<Value>> user_set_ = {};
    uint64_t tick_hz_ = 1;
    const int64_t opened_ns_ = now_ns();
    int64_t latched_ticks_ = 0;
    bool shutter_before_ = false, shutter_after_ = false;
    int64_t shutter_ns_ = 0;
    std::atomic<int64_t> clock_zero_ns_{0}, ptp_since_ns_{0};
    std::atomic<bool> ptp_{false};

    std::atomic<bool> lost_{false}, silent_{false}, keeps_info_{false};
    std::atomic<bool> acquiring_{false};
    std::atomic<int64_t> frames_{0}, frames_lost_{0}, triggers_missed_{0}, encoder_{0},
        encoder_zero_{0};

    // Between the threads; never held while mutex_ is taken.
    std::mutex exchange_;
    std::condition_variable woken_;
    std::shared_ptr<const Shot> shot_ = {};
    std::shared_ptr<FrameSink> sink_ = {};
    std::function<void()> told_lost_ = {};
    std::deque<int64_t> soft_triggers_ = {};
    int64_t busy_until_ns_ = 0;
    bool start_triggered_ = false, stopping_ = false;
    std::atomic<uint64_t> shot_number_{0};
    std::thread thread_ = {};
};

}  // namespace vcam

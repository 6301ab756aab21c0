// The camera's acquisition: when frames come, which are lost, what happens on the way.
//
// Open loop: a frame that is due is made whether anybody has a buffer for it; if nobody has, it is
// lost, and its id is skipped. The thread works from snapshots of the settings only.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>

#include "camera.h"

namespace vcam {
namespace {

// Rendered frames that are kept for the next time round.
size_t keep_bytes() {
    const char* const given = std::getenv("SWATH_VIRTUAL_CACHE_MB");
    const auto megabytes = given == nullptr ? 256 : std::strtoll(given, nullptr, 10);
    return static_cast<size_t>(std::max<long long>(0, megabytes)) << 20;
}

std::chrono::steady_clock::time_point at(int64_t ns) {
    return std::chrono::steady_clock::time_point(std::chrono::nanoseconds(ns));
}

}  // namespace

class Acquisition {
public:
    explicit Acquisition(Camera& camera) : camera_(camera), renderer_(keep_bytes()) {}
    void run();

private:
    struct Ended {};  // thrown where the acquisition is to end

    void refresh();
    void wait_until(int64_t due_ns);
    void await_start();
    int64_t next_due();
    int64_t next_trigger();
    int64_t encoder_trigger();
    bool scene_ended() const;
    bool struck(int64_t every) const { return every > 0 && (index_ + 1) % every == 0; }
    void strike(int64_t due_ns);
    void unplug();
    void frame(int64_t due_ns);
    FrameInfo fill(int64_t due_ns, uint8_t* memory, size_t size);
    int64_t line() const;
    uint64_t id() const;
    void lose() { ++camera_.frames_lost_; }

    Camera& camera_;
    Renderer renderer_;
    std::shared_ptr<const Shot> shot_ = {};
    uint64_t shot_number_ = 0;
    int64_t start_ns_ = 0;
    int64_t index_ = 0;  // frames since the start, lost ones included
    int64_t anchor_ns_ = 0, anchor_index_ = 0;  // frame `index` is due index - anchor_index + 1
    double anchored_rate_ = -1.0;               // periods after the anchor
    int64_t last_due_ns_ = 0, busy_until_ns_ = 0, stall_until_ns_ = 0;
    int64_t line_position_ = 0;
    bool dark_ = false;
    Encoder encoder_{EncoderSettings{}};
};

void Camera::set_sink(std::shared_ptr<FrameSink> sink) {
    const std::lock_guard lock(exchange_);
    sink_ = std::move(sink);
    woken_.notify_all();
}

void Camera::on_lost(std::function<void()> told) {
    const std::lock_guard lock(exchange_);
    told_lost_ = std::move(told);
}

void Camera::start() {
    if (acquiring_) return;
    stop();
    {
        const std::lock_guard lock(exchange_);
        stopping_ = false;
        start_triggered_ = false;
        soft_triggers_.clear();
        busy_until_ns_ = 0;
    }
    frames_ = frames_lost_ = triggers_missed_ = 0;
    publish();
    acquiring_ = true;
    thread_ = std::thread([this] { run(); });
}

void Camera::stop() {
    const std::lock_guard one_at_a_time(mutex_);
    {
        const std::lock_guard lock(exchange_);
        stopping_ = true;
        woken_.notify_all();
    }
    if (thread_.joinable()) thread_.join();
    acquiring_ = false;
}

void Camera::run() {
    Acquisition(*this).run();
    acquiring_ = false;
}

void Acquisition::run() {
    try {
        start_ns_ = last_due_ns_ = now_ns();
        refresh();
        encoder_ = Encoder(shot_->encoder);
        encoder_.start();
        await_start();
        anchor_ns_ = last_due_ns_ = now_ns();
        while (shot_->frames == 0 || index_ < shot_->frames) {
            refresh();
            if (scene_ended()) break;
            const int64_t due_ns = next_due();
            wait_until(due_ns);
            refresh();
            frame(due_ns);
            last_due_ns_ = due_ns;
        }
    } catch (const Ended&) {
    } catch (const std::bad_alloc&) {
        unplug();  // as good as gone: it makes no more frames
    }
}

// Takes the newest settings, and makes ready what follows from them.
void Acquisition::refresh() {
    if (shot_number_ == camera_.shot_number_) return;
    const auto before = shot_;
    {
        const std::lock_guard lock(camera_.exchange_);
        shot_ = camera_.shot_;
        shot_number_ = camera_.shot_number_;
    }
    if (shot_->rate != anchored_rate_) {
        anchored_rate_ = shot_->rate;
        anchor_ns_ = last_due_ns_;
        anchor_index_ = index_;
    }
    auto view = shot_->view;
    view.dark = dark_;
    renderer_.look(view);
}

void Acquisition::wait_until(int64_t due_ns) {
    std::unique_lock lock(camera_.exchange_);
    while (true) {
        if (camera_.stopping_) throw Ended{};
        const int64_t now = now_ns();
        const int64_t gone_ns = shot_->unplug_time_ns == 0 ? INT64_MAX
                                                           : start_ns_ + shot_->unplug_time_ns;
        if (now >= gone_ns) {
            lock.unlock();
            unplug();
            throw Ended{};
        }
        if (now >= due_ns) return;
        camera_.woken_.wait_until(lock, at(std::min(due_ns, gone_ns)));
    }
}

void Acquisition::await_start() {
    if (!shot_->acquisition_trigger) return;
    if (shot_->acquisition_line1) {
        // The stage starts to move.
        wait_until(encoder_.moves() ? start_ns_ + std::llround(encoder_.next_s() * 1e9) : INT64_MAX);
        return;
    }
    while (true) {
        {
            const std::lock_guard lock(camera_.exchange_);
            if (camera_.start_triggered_) return;
        }
        wait_until(now_ns() + 1000000);
    }
}

bool Acquisition::scene_ended() const {
    if (shot_->loop || shot_->frame_line1) return false;
    const int64_t each = shot_->view.linescan ? shot_->view.height : 1;
    return shot_->first_line + (index_ + 1) * each > shot_->view.scene->lines();
}

int64_t Acquisition::next_due() {
    if (shot_->frame_trigger) {
        int64_t due_ns = 0;
        for (int64_t i = 0; i < shot_->triggers_per_frame; ++i) {
            due_ns = next_trigger();
            if (i == 0) line_position_ = encoder_.position();
        }
        return due_ns;
    }
    if (shot_->rate <= 0.0) {
        while (true) {
            wait_until(0);
            refresh();
            if (shot_->rate > 0.0 || shot_->frame_trigger) return next_due();
            std::shared_ptr<FrameSink> sink;
            {
                const std::lock_guard lock(camera_.exchange_);
                sink = camera_.sink_;
            }
            if (sink != nullptr && sink->await_buffer(10)) return now_ns();
            if (sink == nullptr) wait_until(now_ns() + 1000000);
        }
    }
    const auto periods = static_cast<double>(index_ - anchor_index_ + 1);
    return anchor_ns_ + std::llround(periods * 1e9 / shot_->rate);
}

int64_t Acquisition::next_trigger() {
    while (true) {
        if (shot_->frame_line1) {
            const int64_t due_ns = encoder_trigger();
            if (due_ns >= busy_until_ns_) {
                busy_until_ns_ = due_ns + shot_->cycle_ns;
                return due_ns;
            }
            ++camera_.triggers_missed_;
            continue;
        }
        {
            const std::lock_guard lock(camera_.exchange_);
            if (!camera_.soft_triggers_.empty()) {
                const int64_t pulled = camera_.soft_triggers_.front();
                camera_.soft_triggers_.pop_front();
                return pulled + shot_->cycle_ns;
            }
        }
        wait_until(now_ns() + 1000000);
        refresh();
    }
}

// Lets the stage run, in real time, until its encoder fires.
int64_t Acquisition::encoder_trigger() {
    while (true) {
        wait_until(0);
        if (!encoder_.moves()) {
            wait_until(now_ns() + 10000000);
            continue;
        }
        const int64_t count_ns = start_ns_ + std::llround(encoder_.next_s() * 1e9);
        // Counts are made a little at a time, so that the position can be read meanwhile.
        if (count_ns > now_ns() + 1000000) wait_until(count_ns);
        const bool fired = encoder_.step();
        camera_.encoder_ = encoder_.position();
        if (fired) return count_ns;
    }
}

void Acquisition::unplug() {
    camera_.state_->unplug(shot_->unplug_for_s);
    camera_.lost_ = true;
    std::function<void()> told;
    {
        const std::lock_guard lock(camera_.exchange_);
        told = camera_.told_lost_;
    }
    if (told) told();
}

// Faults that are no frame's own.
void Acquisition::strike(int64_t due_ns) {
    if (shot_->crash_after > 0 && index_ >= shot_->crash_after) {
        camera_.state_->strike();
        std::abort();
    }
    if (shot_->unplug_after > 0 && index_ >= shot_->unplug_after) {
        unplug();
        throw Ended{};
    }
    if (shot_->reset_after > 0 && index_ == shot_->reset_after) {
        camera_.clock_zero_ns_ = due_ns - shot_->cycle_ns;
    }
    if (shot_->stall_after > 0 && index_ == shot_->stall_after) {
        stall_until_ns_ = due_ns + shot_->stall_ns;
        const bool clocked = shot_->rate > 0.0 && !shot_->frame_trigger;
        if (!clocked) wait_until(stall_until_ns_);
    }
}

void Acquisition::frame(int64_t due_ns) {
    strike(due_ns);
    if (!shot_->frame_line1) {
        encoder_.advance(static_cast<double>(due_ns - start_ns_) * 1e-9);
        camera_.encoder_ = encoder_.position();
    }
    std::shared_ptr<FrameSink> sink;
    {
        const std::lock_guard lock(camera_.exchange_);
        sink = camera_.sink_;
    }
    if (due_ns < stall_until_ns_ || struck(shot_->loss_every) || sink == nullptr) {
        lose();
    } else if (!sink->deliver([&](uint8_t* memory, size_t size) {
                   return fill(due_ns, memory, size);
               })) {
        lose();
    }
    ++index_;
    camera_.frames_ = index_;
}

int64_t Acquisition::line() const {
    const int64_t lines = shot_->view.scene->lines();
    int64_t line = shot_->first_line;
    if (shot_->frame_line1) {
        // What lies under the slit follows from the stage's position, also when it went back.
        const int64_t divider = shot_->encoder.divider;
        line += (line_position_ >= 0 ? line_position_ : line_position_ - divider + 1) / divider;
    } else {
        line += index_ * (shot_->view.linescan ? shot_->view.height : 1);
    }
    return (line % lines + lines) % lines;
}

uint64_t Acquisition::id() const {
    const int64_t id = shot_->first_id + index_;
    return static_cast<uint64_t>(shot_->sixteen_bit ? (id - 1) % 65535 + 1 : id);
}

FrameInfo Acquisition::fill(int64_t due_ns, uint8_t* memory, size_t size) {
    const int64_t exposed_ns = due_ns - shot_->cycle_ns;
    const bool dark = exposed_ns >= shot_->shutter_ns ? shot_->shutter_after
                                                      : shot_->shutter_before;
    auto view = shot_->view;
    if (dark != dark_) {
        dark_ = view.dark = dark;
        renderer_.look(view);
    }
    FrameInfo info;
    info.id = id();
    info.ns = camera_.clock_ns(exposed_ns);
    info.ticks = camera_.ticks(info.ns);
    info.width = view.width;
    info.height = view.height;
    info.x = view.x;
    info.y = view.linescan ? 0 : view.y;
    info.pixel_format = view.format->code;
    info.padding = view.padding;
    info.image_bytes = view.image_bytes();
    const size_t needed = shot_->chunks_on ? with_chunks(info.image_bytes, shot_->chunks.size())
                                           : info.image_bytes;
    info.larger_than_buffer = size < needed;
    info.incomplete = info.larger_than_buffer || struck(shot_->incomplete_every);
    info.delivered_height = static_cast<size_t>(view.height);
    size_t bytes = std::min(info.image_bytes, size);
    if (info.incomplete) {
        bytes = std::min(bytes, info.image_bytes / 2);
        info.delivered_height /= 2;
    }
    renderer_.frame(line(), memory, bytes);
    info.filled = bytes;
    if (shot_->chunks_on && !info.incomplete) {
        ChunkValues values;
        values.timestamp = static_cast<int64_t>(info.ticks);
        values.frame_id = static_cast<int64_t>(info.id);
        values.exposure_us = view.exposure_us;
        values.encoder = camera_.encoder_ - camera_.encoder_zero_;
        values.line_status = camera_.encoder_ & 1;
        info.chunks = write_chunks(memory, info.image_bytes, shot_->chunks, values,
                                   shot_->big_endian_trailers);
        info.filled = needed;
        for (const auto& chunk : info.chunks) {
            info.chunk_layout = info.chunk_layout * 31 + chunk.ChunkID;
        }
    }
    return info;
}

}  // namespace vcam

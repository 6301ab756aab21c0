// What the acquisition sees of the camera: snapshots of the settings, and software triggers.

#include <algorithm>
#include <cmath>

#include "camera.h"

namespace vcam {

std::vector<ChunkId> Camera::enabled_chunks() {
    std::vector<ChunkId> ids;
    for (const auto& kind : chunk_kinds()) {
        if (stored(ChunkEnable, kind.id).integer != 0) ids.push_back(kind.id);
    }
    return ids;
}

size_t Camera::payload_size() {
    const std::lock_guard lock(mutex_);
    const size_t image = make_view().image_bytes();
    return on(ChunkModeActive) ? with_chunks(image, enabled_chunks().size()) : image;
}

View Camera::make_view() {
    View view;
    view.scene = scene_;
    view.linescan = whole(DeviceScanType) == kLinescan;
    view.width = whole(Width);
    view.height = whole(Height);
    view.x = whole(OffsetX);
    view.y = whole(OffsetY);
    view.bin_x = whole(BinningHorizontal);
    view.bin_y = whole(BinningVertical);
    view.average_x = whole(BinningHorizontalMode) == kAverage;
    view.average_y = whole(BinningVerticalMode) == kAverage;
    view.row = whole(LinescanRow);
    view.exposure_us = real(ExposureTime);
    view.scene_exposure_us = real(SceneExposureTime);
    view.gain_db = real(Gain);
    view.black = real(BlackLevel);
    view.scene_black = real(SceneBlackLevel);
    view.format = &pixel_format(whole(PixelFormat));
    view.padding = static_cast<size_t>(whole(FaultPaddingX));
    return view;
}

std::shared_ptr<const Shot> Camera::make_shot() {
    auto made = std::make_shared<Shot>();
    auto& shot = *made;
    shot.view = make_view();
    shot.shutter_before = shutter_before_;
    shot.shutter_after = shutter_after_;
    shot.shutter_ns = shutter_ns_;
    shot.rate = on(AcquisitionFrameRateEnable) ? real(AcquisitionFrameRate) : fastest_rate();
    shot.exposure_ns = std::llround(real(ExposureTime) * 1e3);
    shot.cycle_ns = shot.exposure_ns + std::llround(readout_us() * 1e3);
    const auto uses = [&](int64_t selected) { return trigger(TriggerMode, selected) != 0; };
    const auto line1 = [&](int64_t selected) { return trigger(TriggerSource, selected) == kLine1; };
    shot.acquisition_trigger = uses(kAcquisitionStart);
    shot.acquisition_line1 = line1(kAcquisitionStart);
    const bool lines = shot.view.linescan && uses(kLineStart);
    shot.frame_trigger = uses(kFrameStart) || lines;
    shot.frame_line1 = line1(lines ? kLineStart : kFrameStart);
    shot.triggers_per_frame = lines ? shot.view.height : 1;
    auto& encoder = shot.encoder;
    encoder.rate = real(EncoderRate);
    encoder.jitter = real(EncoderJitter);
    encoder.start_delay_s = real(EncoderStartDelay);
    encoder.pause_every = whole(EncoderPauseEvery);
    encoder.pause_s = real(EncoderPauseTime);
    encoder.reverse_every = whole(EncoderReverseEvery);
    encoder.reverse_count = whole(EncoderReverseCount);
    encoder.divider = whole(EncoderDivider);
    encoder.output = static_cast<EncoderOutput>(whole(EncoderOutputMode));
    const int64_t mode = whole(AcquisitionMode);
    shot.frames = mode == kContinuous ? 0 : mode == kSingleFrame ? 1 : whole(AcquisitionFrameCount);
    shot.loop = on(SceneLoop);
    shot.first_line = whole(SceneFirstLine) % scene_->lines();
    shot.chunks_on = on(ChunkModeActive);
    shot.chunks = enabled_chunks();
    const bool gev = identity_.tl_type == "GEV";
    shot.big_endian_trailers = gev;
    shot.sixteen_bit = on(FaultFrameID16Bit) || (gev && !on(GevGVSPExtendedIDMode));
    // USB3 Vision counts from 0, GigE Vision from 1.
    shot.first_id = whole(FaultFrameIDStart) + (gev || shot.sixteen_bit ? 1 : 0);
    shot.loss_every = whole(FaultFrameLossEvery);
    shot.incomplete_every = whole(FaultIncompleteEvery);
    shot.reset_after = whole(FaultTimestampResetAfter);
    shot.stall_after = whole(FaultStallAfter);
    shot.stall_ns = std::llround(real(FaultStallTime) * 1e9);
    shot.unplug_for_s = real(FaultUnplugTime);
    const bool strikes = whole(FaultStrikes) == 0 || state_->strikes() < whole(FaultStrikes);
    if (strikes) {
        shot.unplug_after = whole(FaultUnplugAfter);
        shot.unplug_time_ns = std::llround(real(FaultUnplugAfterTime) * 1e9);
        shot.crash_after = whole(FaultCrashAfter);
    }
    return made;
}

void Camera::publish() {
    auto made = make_shot();
    silent_ = on(FaultUnplugSilent);
    keeps_info_ = on(FaultUnplugKeepsInfo);
    const std::lock_guard lock(exchange_);
    shot_ = std::move(made);
    ++shot_number_;
    woken_.notify_all();
}

void Camera::soft_trigger() {
    const int64_t selected = whole(TriggerSelector);
    if (trigger(TriggerMode, selected) == 0 || trigger(TriggerSource, selected) != kSoftware) return;
    const auto shot = make_shot();
    const std::lock_guard lock(exchange_);
    if (selected == kAcquisitionStart) {
        start_triggered_ = true;
    } else if (!acquiring_) {
        return;
    } else if (const int64_t now = now_ns(); now < busy_until_ns_) {
        ++triggers_missed_;
    } else {
        soft_triggers_.push_back(now);
        busy_until_ns_ = now + shot->cycle_ns;
    }
    woken_.notify_all();
}

}  // namespace vcam

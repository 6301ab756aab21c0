#include "camera.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <sstream>

namespace vcam {
namespace {

std::string environment(const std::string& name) {
    const char* const value = std::getenv(name.c_str());
    return value == nullptr ? "" : value;
}

}  // namespace

Camera::Camera(const Identity& identity, std::unique_ptr<DeviceState> state)
    : Registers(identity.model), identity_(identity), state_(std::move(state)) {
    for (auto& feature : camera_features()) add(std::move(feature));
    const auto tick_hz = environment("SWATH_VIRTUAL_TICK_HZ");
    if (!tick_hz.empty()) stored(GevTimestampTickFrequency).integer = std::stoll(tick_hz);
    tick_hz_ = static_cast<uint64_t>(std::max<int64_t>(1, whole(GevTimestampTickFrequency)));
    clock_zero_ns_ = opened_ns_;
    stored(SceneBands).integer = identity_.rows;
    stored(SceneSamples).integer = identity_.columns;
    power_on();
    apply_environment();
    publish();
}

Camera::~Camera() { stop(); }

void Camera::release() {
    const std::lock_guard lock(mutex_);
    lost_ = true;  // a port that another thread still holds must not read what is gone
    state_->unlock();
}

// -- settings ------------------------------------------------------------------------------------

void Camera::power_on() {
    for (int i = 0; i < count(); ++i) {
        // What is played is no setting of a camera.
        if (i != GevTimestampTickFrequency && feature(i).category != "SceneControl") reset_stored(i);
    }
    stored(DeviceUserID).text = identity_.user_id;
    if (scene_ == nullptr) load_scene();
    fit_region();
    stored(Width).integer = width_max();
    stored(Height).integer = height_max();
}

// SWATH_VIRTUAL_SET, and for one device SWATH_VIRTUAL_SET_<serial>: Name=value;Name=value …
void Camera::apply_environment() {
    const auto texts = {environment("SWATH_VIRTUAL_SET"),
                        environment("SWATH_VIRTUAL_SET_" + identity_.serial)};
    for (const auto& text : texts) {
        bool scene = false;
        std::stringstream settings(text);
        for (std::string one; std::getline(settings, one, ';');) {
            if (one.empty()) continue;
            const auto equals = one.find('=');
            if (equals == std::string::npos) {
                fail(GC_ERR_INVALID_VALUE, "SWATH_VIRTUAL_SET: found " + one +
                                               ", it takes Name=value;Name=value");
            }
            const auto name = one.substr(0, equals);
            const bool of_scene = name.rfind("Scene", 0) == 0;
            // The scene decides on the limits of what follows it.
            if (scene && !of_scene) load_scene();
            scene = of_scene;
            set_by_name(name, one.substr(equals + 1));
        }
        if (scene) load_scene();
    }
}

void Camera::load_scene() {
    SceneSettings settings;
    settings.file = stored(SceneFile).text;
    settings.offset = whole(SceneOffset);
    settings.lines = whole(SceneLines);
    settings.bands = whole(SceneBands);
    settings.samples = whole(SceneSamples);
    settings.bits = whole(SceneBits);
    settings.interleave = whole(SceneInterleave);
    if (scene_ != nullptr && scene_->settings() == settings) return;
    const bool whole_sensor = scene_ == nullptr || (whole(Width) == width_max() &&
                                                    whole(Height) == height_max());
    scene_ = std::make_shared<const Scene>(settings);
    fit_region();
    if (whole_sensor) {
        stored(OffsetX).integer = stored(OffsetY).integer = 0;
        stored(Width).integer = width_max();
        stored(Height).integer = height_max();
    }
}

int64_t Camera::height_max() {
    if (whole(DeviceScanType) == kLinescan) return kLinescanHeightMax;
    return scene_->bands() / whole(BinningVertical);
}

// Brings everything that depends on the sensor's size back into its limits.
void Camera::fit_region() {
    const auto into = [&](int index, int64_t low, int64_t high) {
        auto& value = stored(index).integer;
        value = std::clamp(value, low, std::max(low, high));
    };
    into(BinningHorizontal, 1, std::min<int64_t>(8, scene_->samples()));
    into(BinningVertical, 1,
         whole(DeviceScanType) == kLinescan ? 1 : std::min<int64_t>(8, scene_->bands()));
    into(Width, 1, width_max());
    into(OffsetX, 0, width_max() - whole(Width));
    into(Height, 1, height_max());
    into(OffsetY, 0, whole(DeviceScanType) == kLinescan ? 0 : height_max() - whole(Height));
    into(LinescanRow, 0, scene_->bands() - 1);
    auto& black = stored(BlackLevel).real;
    black = std::clamp(black, 0.0, static_cast<double>((1 << scene_->bits()) - 1));
    auto& rate = stored(AcquisitionFrameRate).real;
    rate = std::min(rate, fastest_rate());
}

// The region keeps its place on the sensor.
void Camera::set_binning(int index, int64_t value) {
    const bool across = index == BinningHorizontal;
    auto& size = stored(across ? Width : Height).integer;
    auto& offset = stored(across ? OffsetX : OffsetY).integer;
    const int64_t before = whole(index);
    const bool all = size == (across ? width_max() : height_max());
    stored(index).integer = value;
    const int64_t most = across ? width_max() : height_max();
    offset = all ? 0 : offset * before / value;
    size = all ? most : std::max<int64_t>(1, size * before / value);
}

double Camera::readout_us() {
    const bool line = whole(DeviceScanType) == kLinescan;
    const int64_t rows = line ? 1 : whole(Height) * whole(BinningVertical);
    return static_cast<double>(rows) * real(SensorRowTime);
}

double Camera::fastest_rate() {
    const int64_t lines = whole(DeviceScanType) == kLinescan ? whole(Height) : 1;
    return 1e6 / ((real(ExposureTime) + readout_us()) * static_cast<double>(lines));
}

Limits Camera::limits(int index) {
    const auto whole_range = [](int64_t low, int64_t high) {
        return Limits{static_cast<double>(low), static_cast<double>(high), 1.0};
    };
    const bool line = whole(DeviceScanType) == kLinescan;
    switch (index) {
        case Width: return whole_range(1, width_max() - whole(OffsetX));
        case Height: return whole_range(1, height_max() - (line ? 0 : whole(OffsetY)));
        case OffsetX: return whole_range(0, width_max() - whole(Width));
        case OffsetY: return whole_range(0, line ? 0 : height_max() - whole(Height));
        case BinningHorizontal: return whole_range(1, std::min<int64_t>(8, scene_->samples()));
        case BinningVertical:
            return whole_range(1, line ? 1 : std::min<int64_t>(8, scene_->bands()));
        case LinescanRow: return whole_range(0, scene_->bands() - 1);
        case BlackLevel: return {0.0, static_cast<double>((1 << scene_->bits()) - 1), 0.0};
        case AcquisitionFrameRate: return {0.0, fastest_rate(), 0.0};
        case AcquisitionLineRate:
            return {0.0, fastest_rate() * static_cast<double>(whole(Height)), 0.0};
        default: return feature(index).limits;
    }
}

bool Camera::available(int index) {
    if (index == AcquisitionLineRate) return whole(DeviceScanType) == kLinescan;
    if (index == GevGVSPExtendedIDMode) return identity_.tl_type == "GEV";
    return true;
}

bool Camera::entry_available(int index, int64_t value) {
    return index != TriggerSelector || value != kLineStart || whole(DeviceScanType) == kLinescan;
}

bool Camera::locked(int index) {
    if (index == UserSetLoad || index == SceneLoad || feature(index).tl_locked) {
        return whole(TLParamsLocked) != 0 || acquiring_;
    }
    return false;
}

void Camera::before_access() {
    if (lost_) fail(GC_ERR_IO, "device " + identity_.serial + " does not answer");
}

std::vector<std::string> Camera::extra_features(const std::string& category) const {
    std::vector<std::string> names;
    if (category != "ChunkDataControl") return names;
    for (const auto& kind : chunk_kinds()) names.emplace_back(kind.feature);
    return names;
}

Value Camera::get(int index) {
    const auto whole_value = [](int64_t value) { return Value{value, 0.0, {}}; };
    const auto real_value = [](double value) { return Value{0, value, {}}; };
    const auto text_value = [](const std::string& value) { return Value{0, 0.0, value}; };
    switch (index) {
        case DeviceVendorName: return text_value(kVendor);
        case DeviceModelName: return text_value(identity_.model);
        case DeviceSerialNumber: return text_value(identity_.serial);
        case DeviceFirmwareVersion: return text_value(kVersion);
        case DeviceTemperature: return real_value(temperature(whole(DeviceTemperatureSelector)));
        case TimestampLatchValue: return whole_value(latched_ticks_);
        case SensorWidth: return whole_value(scene_->samples());
        case SensorHeight: return whole_value(scene_->bands());
        case WidthMax: return whole_value(width_max());
        case HeightMax: return whole_value(height_max());
        case AcquisitionLineRate:
            return real_value(real(AcquisitionFrameRate) * static_cast<double>(whole(Height)));
        case EncoderValue: return whole_value(encoder_ - encoder_zero_);
        case LineStatusAll: return whole_value(encoder_ & 1);
        case ShutterClosed: return whole_value(shutter_closed(now_ns()));
        case PayloadSize: return whole_value(static_cast<int64_t>(payload_size()));
        case PtpStatus: return whole_value(ptp_status());
        case StatFrames: return whole_value(frames_);
        case StatFramesLost: return whole_value(frames_lost_);
        case StatTriggersMissed: return whole_value(triggers_missed_);
        default: return stored(index);
    }
}

void Camera::set(int index, const Value& value) {
    if (!stored(FaultRefuseFeature).text.empty() && index != FaultRefuseFeature &&
        stored(FaultRefuseFeature).text == feature(index).name) {
        fail(GC_ERR_ACCESS_DENIED, feature(index).name + " refuses to be set (a fault asked for)");
    }
    switch (feature(index).kind) {
        case Kind::command: execute(index); break;
        case Kind::text: stored(index).text = value.text; break;
        case Kind::real: stored(index).real = value.real; break;
        default:
            if (index == BinningHorizontal || index == BinningVertical) {
                set_binning(index, value.integer);
            } else {
                stored(index).integer = value.integer;
            }
    }
    switch (index) {
        case DeviceScanType:
            stored(OffsetY).integer = 0;
            stored(Height).integer = value.integer == kLinescan ? kLinescanHeight : height_max();
            break;
        case AcquisitionLineRate:
            stored(AcquisitionFrameRate).real = value.real / static_cast<double>(whole(Height));
            break;
        case PtpEnable:
            ptp_since_ns_ = now_ns();
            ptp_ = value.integer != 0;
            break;
        case MotorShutter_PulseFwd: move_shutter(true, value.integer); break;
        case MotorShutter_PulseRev: move_shutter(false, value.integer); break;
        default: break;
    }
    fit_region();
    publish();
}

void Camera::execute(int index) {
    switch (index) {
        case TimestampLatch:
            latched_ticks_ = static_cast<int64_t>(ticks(clock_ns(now_ns())));
            break;
        case TimestampReset: clock_zero_ns_ = now_ns(); break;
        case AcquisitionStart: start(); break;
        case AcquisitionStop: stop(); break;
        case TriggerSoftware: soft_trigger(); break;
        case EncoderReset: encoder_zero_ = encoder_.load(); break;
        case SceneLoad: load_scene(); break;
        case UserSetLoad: load_user_set(); break;
        case UserSetSave:
            if (whole(UserSetSelector) == 0) {
                fail(GC_ERR_ACCESS_DENIED, "UserSetSave: the set Default cannot be changed");
            }
            for (int i = 0; i < count(); ++i) {
                auto& kept = user_set_[i];
                kept.clear();
                const int selector = feature(i).selector;
                if (selector < 0) {
                    kept.push_back(stored(i));
                    continue;
                }
                for (const auto& entry : feature(selector).entries) {
                    kept.push_back(stored(i, entry.value));
                }
            }
            break;
        default: break;
    }
}

void Camera::load_user_set() {
    const int64_t chosen = whole(UserSetSelector);
    const auto ours = [&](int i) {
        const auto& what = feature(i);
        return !what.read_only && what.category != "SceneControl" &&
               what.category != "FaultControl" && i != TLParamsLocked && i != UserSetSelector;
    };
    for (int i = 0; i < count(); ++i) {
        if (!ours(i)) continue;
        if (chosen == 0) {
            reset_stored(i);
            continue;
        }
        const auto kept = user_set_.find(i);
        if (kept == user_set_.end()) continue;
        const int selector = feature(i).selector;
        for (size_t j = 0; j < kept->second.size(); ++j) {
            if (selector < 0) stored(i) = kept->second[j];
            else stored(i, feature(selector).entries[j].value) = kept->second[j];
        }
    }
    if (chosen == 0) {
        stored(DeviceUserID).text = identity_.user_id;
        stored(Width).integer = width_max();
        stored(Height).integer = height_max();
    }
}

}  // namespace vcam

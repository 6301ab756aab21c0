// The camera's clock, temperature and shutter: what goes on by itself while it is open.

#include <algorithm>
#include <chrono>
#include <cmath>

#include "camera.h"

namespace vcam {
namespace {

// Stages that a clock goes through until it follows the network's, from this many seconds on.
constexpr double kPtpListeningS = 0.1, kPtpUncalibratedS = 0.2, kPtpSlaveS = 0.3;

int64_t utc_ns() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

}  // namespace

int64_t now_ns() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

uint64_t Camera::clock_ns(int64_t at_ns) const {
    if (ptp_ && ptp_status() == kPtpSlave) {
        return static_cast<uint64_t>(at_ns + (utc_ns() - now_ns()));
    }
    return static_cast<uint64_t>(std::max<int64_t>(0, at_ns - clock_zero_ns_));
}

uint64_t Camera::ticks(uint64_t ns) const {
    return static_cast<uint64_t>(static_cast<unsigned __int128>(ns) * tick_hz_ / 1000000000U);
}

PtpStatusValue Camera::ptp_status() const {
    if (!ptp_) return kPtpDisabled;
    const double s = static_cast<double>(now_ns() - ptp_since_ns_) * 1e-9;
    if (s < kPtpListeningS) return kPtpInitializing;
    if (s < kPtpUncalibratedS) return kPtpListening;
    return s < kPtpSlaveS ? kPtpUncalibrated : kPtpSlave;
}

double Camera::temperature(int64_t selected) const {
    const double s = static_cast<double>(now_ns() - opened_ns_) * 1e-9;
    const double sensor = 35.0 - 4.0 * std::exp(-s / 600.0) + 0.25 * std::sin(s * 0.065);
    return std::round((selected == 0 ? sensor : sensor + 6.0) * 16.0) / 16.0;
}

void Camera::move_shutter(bool closed, int64_t pulse_ms) {
    if (pulse_ms == 0) return;
    const int64_t now = now_ns();
    shutter_before_ = shutter_closed(now);
    shutter_after_ = closed;
    shutter_ns_ = now + pulse_ms * 1000000;
}

bool Camera::shutter_closed(int64_t at_ns) const {
    return at_ns >= shutter_ns_ ? shutter_after_ : shutter_before_;
}

}  // namespace vcam

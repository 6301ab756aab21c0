#include "render.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <tuple>

namespace vcam {
namespace {

// Adding and taking away 1.5 * 2^23 rounds a float below 2^22 to the nearest whole number, half to
// even, and unlike lrintf() the loop becomes vector instructions everywhere.
constexpr float kRound = 12582912.0F;

void expose(const int32_t* sums, size_t pixels, float offset, float scale, float black, float full,
            uint16_t* out) {
    for (size_t i = 0; i < pixels; ++i) {
        float value = (static_cast<float>(sums[i]) - offset) * scale + black;
        value = value < 0.0F ? 0.0F : value;
        value = value > full ? full : value;
        out[i] = static_cast<uint16_t>(static_cast<int32_t>((value + kRound) - kRound));
    }
}

void add_bins(const uint16_t* in, size_t bins, size_t size, int32_t* sums) {
    if (size == 1) {
        for (size_t i = 0; i < bins; ++i) sums[i] += in[i];
        return;
    }
    for (size_t i = 0; i < bins; ++i) {
        int32_t sum = 0;
        for (size_t j = 0; j < size; ++j) sum += in[i * size + j];
        sums[i] += sum;
    }
}

}  // namespace

bool View::neutral() const {
    return !dark && bin_x == 1 && bin_y == 1 && exposure_us == scene_exposure_us &&
           gain_db == 0.0 && black == scene_black;
}

bool View::operator==(const View& other) const {
    const auto all = [](const View& v) {
        return std::tie(v.scene, v.linescan, v.width, v.height, v.x, v.y, v.bin_x, v.bin_y,
                        v.average_x, v.average_y, v.row, v.exposure_us, v.scene_exposure_us,
                        v.gain_db, v.black, v.scene_black, v.dark, v.format, v.padding);
    };
    return all(*this) == all(other);
}

void Renderer::look(const View& view) {
    if (view == view_) return;
    view_ = view;
    neutral_ = view.neutral();
    double scale = view.exposure_us / view.scene_exposure_us * std::pow(10.0, view.gain_db / 20.0);
    if (view.average_x) scale /= static_cast<double>(view.bin_x);
    if (view.average_y) scale /= static_cast<double>(view.bin_y);
    scale_ = view.dark ? 0.0F : static_cast<float>(scale);
    kept_.clear();
    kept_.resize(static_cast<size_t>(view.scene->lines()));
    kept_bytes_ = 0;
    wide_.resize(static_cast<size_t>(view.width * view.bin_x));
    sums_.resize(static_cast<size_t>(view.width));
    counts_.resize(static_cast<size_t>(view.width * view.height));
}

void Renderer::frame(int64_t line, uint8_t* out, size_t bytes) {
    if (copy_whole(line, out, bytes)) return;
    auto& kept = kept_[static_cast<size_t>(line)];
    const size_t needed = view_.image_bytes();
    if (kept.empty()) {
        // A frame that is not kept and fits is rendered straight into the buffer.
        const bool keep = kept_bytes_ + needed <= keep_bytes_;
        if (!keep && bytes >= needed) {
            render(line, out);
            return;
        }
        auto& target = keep ? kept : whole_;
        target.resize(needed);
        render(line, target.data());
        if (keep) kept_bytes_ += needed;
        std::memcpy(out, target.data(), std::min(bytes, needed));
        return;
    }
    std::memcpy(out, kept.data(), std::min(bytes, needed));
}

// The fast way: the frame lies in the file as it is to be sent.
bool Renderer::copy_whole(int64_t line, uint8_t* out, size_t bytes) const {
    const auto& scene = *view_.scene;
    const bool same = neutral_ && view_.format->packing == Packing::none &&
                      view_.format->bits == scene.bits() && scene.row(0, 0, 0) != nullptr;
    if (!same || view_.padding != 0 || bytes < view_.image_bytes()) return false;
    const size_t row_bytes = view_.row_bytes();
    if (!view_.linescan && scene.rows_follow() && view_.width == scene.samples()) {
        std::memcpy(out, scene.row(line, view_.y, 0), view_.image_bytes());
        return true;
    }
    for (int64_t i = 0; i < view_.height; ++i, out += row_bytes) {
        const auto* const row = view_.linescan
                                    ? scene.row((line + i) % scene.lines(), view_.row, view_.x)
                                    : scene.row(line, view_.y + i, view_.x);
        std::memcpy(out, row, row_bytes);
    }
    return true;
}

void Renderer::counts_of_row(int64_t line, int64_t row, uint16_t* out) {
    const auto& scene = *view_.scene;
    const auto width = static_cast<size_t>(view_.width);
    int64_t band = (view_.y + row) * view_.bin_y;
    if (view_.linescan) {
        line = (line + row) % scene.lines();
        band = view_.row;
    }
    if (neutral_) {
        scene.copy(line, band, view_.x, view_.width, out);
        const auto full = static_cast<uint16_t>((1 << scene.bits()) - 1);
        for (size_t i = 0; i < width; ++i) out[i] = std::min(out[i], full);
    } else {
        std::fill(sums_.begin(), sums_.end(), 0);
        for (int64_t i = 0; i < view_.bin_y; ++i) {
            scene.copy(line, band + i, view_.x * view_.bin_x, view_.width * view_.bin_x,
                       wide_.data());
            add_bins(wide_.data(), width, static_cast<size_t>(view_.bin_x), sums_.data());
        }
        const auto offset = static_cast<float>(view_.scene_black *
                                               static_cast<double>(view_.bin_x * view_.bin_y));
        expose(sums_.data(), width, offset, scale_, static_cast<float>(view_.black),
               static_cast<float>((1 << scene.bits()) - 1), out);
    }
    const int up = view_.format->bits - scene.bits();
    if (up > 0) {
        for (size_t i = 0; i < width; ++i) out[i] = static_cast<uint16_t>(out[i] << up);
    } else if (up < 0) {
        for (size_t i = 0; i < width; ++i) out[i] = static_cast<uint16_t>(out[i] >> -up);
    }
}

void Renderer::render(int64_t line, uint8_t* out) {
    const auto width = static_cast<size_t>(view_.width), height = static_cast<size_t>(view_.height);
    for (size_t i = 0; i < height; ++i) {
        counts_of_row(line, static_cast<int64_t>(i), counts_.data() + i * width);
    }
    if (view_.padding == 0) {
        // Packed pixels go on over the ends of rows.
        pack(*view_.format, counts_.data(), width * height, out);
        return;
    }
    const size_t used = view_.format->bytes(width);
    for (size_t i = 0; i < height; ++i, out += used + view_.padding) {
        pack(*view_.format, counts_.data() + i * width, width, out);
        std::memset(out + used, 0xDD, view_.padding);
    }
}

}  // namespace vcam

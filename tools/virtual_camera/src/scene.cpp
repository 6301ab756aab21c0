#include "scene.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "module.h"

namespace vcam {
namespace {

constexpr int64_t kPatternLines = 16;
constexpr size_t kReadAhead = size_t{1} << 30;
constexpr int64_t kLargest = int64_t{1} << 16;  // pixels of a sensor along an axis

}  // namespace

bool SceneSettings::operator==(const SceneSettings& other) const {
    return file == other.file && offset == other.offset && lines == other.lines &&
           bands == other.bands && samples == other.samples && bits == other.bits &&
           interleave == other.interleave;
}

Scene::Scene(const SceneSettings& settings) : settings_(settings) {
    if (settings.bands < 1 || settings.bands > kLargest || settings.samples < 1 ||
        settings.samples > kLargest || settings.lines < 0 || settings.offset < 0 ||
        settings.bits < 1 || settings.bits > 16 || settings.lines > int64_t{1} << 40) {
        fail(GC_ERR_INVALID_VALUE, "the scene's bands, samples, lines, offset or bits are not "
                                   "possible; SceneBands and SceneSamples go from 1 to 65536");
    }
    if (settings.file.empty()) {
        make_pattern();
        return;
    }
    open_file();
}

Scene::~Scene() {
    if (map_ != nullptr) munmap(map_, map_bytes_);
}

// Every pixel of neighbouring rows, columns and lines differs, and every bit of a count is used.
void Scene::make_pattern() {
    settings_.bits = settings_.bits < 9 ? 12 : settings_.bits;
    settings_.interleave = kBil;
    lines_ = settings_.lines == 0 ? kPatternLines : settings_.lines;
    const auto full = (1 << settings_.bits) - 1;
    const int64_t bands = settings_.bands, samples = settings_.samples;
    pattern_ = std::make_unique<uint16_t[]>(static_cast<size_t>(lines_ * bands * samples));
    auto* out = pattern_.get();
    for (int64_t line = 0; line < lines_; ++line) {
        for (int64_t band = 0; band < bands; ++band) {
            for (int64_t sample = 0; sample < samples; ++sample) {
                *out++ = static_cast<uint16_t>((sample + 3 * band + 101 * line) & full);
            }
        }
    }
    column_step_ = 2;
    band_step_ = samples * column_step_;
    line_step_ = bands * band_step_;
    first_ = reinterpret_cast<const uint8_t*>(pattern_.get());
}

void Scene::open_file() {
    const auto& name = settings_.file;
    const int file = open(name.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) fail(GC_ERR_IO, "SceneFile " + name + ": " + std::strerror(errno));
    struct stat found = {};
    const bool regular = fstat(file, &found) == 0 && S_ISREG(found.st_mode);
    const auto count = static_cast<int64_t>(count_bytes());
    const int64_t bands = settings_.bands, samples = settings_.samples;
    const int64_t line_bytes = bands * samples * count;
    const int64_t there = regular ? (found.st_size - settings_.offset) / line_bytes : 0;
    lines_ = settings_.lines == 0 ? there : settings_.lines;
    if (there < 1 || lines_ > there) {
        close(file);
        fail(GC_ERR_INVALID_VALUE,
             "SceneFile " + name + ": holds " + std::to_string(there < 0 ? 0 : there) + " lines of " +
                 std::to_string(line_bytes) + " bytes behind byte " +
                 std::to_string(settings_.offset) + ", asked for are " + std::to_string(lines_));
    }
    map_bytes_ = static_cast<size_t>(found.st_size);
    map_ = mmap(nullptr, map_bytes_, PROT_READ, MAP_SHARED, file, 0);
    const int error = errno;
    close(file);
    if (map_ == MAP_FAILED) {
        map_ = nullptr;
        fail(GC_ERR_IO, "SceneFile " + name + ": " + std::strerror(error));
    }
    // Read ahead, but never so much that a long recording drives everything else out of memory.
    madvise(map_, std::min(map_bytes_, kReadAhead), MADV_WILLNEED);
    first_ = static_cast<const uint8_t*>(map_) + settings_.offset;
    switch (settings_.interleave) {
        case kBip: column_step_ = bands * count, band_step_ = count, line_step_ = line_bytes; break;
        case kBsq:
            column_step_ = count;
            line_step_ = samples * count;
            band_step_ = lines_ * line_step_;
            break;
        default: column_step_ = count, band_step_ = samples * count, line_step_ = line_bytes;
    }
}

const uint8_t* Scene::row(int64_t line, int64_t band, int64_t column) const {
    if (column_step_ != static_cast<int64_t>(count_bytes())) return nullptr;
    return first_ + line * line_step_ + band * band_step_ + column * column_step_;
}

void Scene::copy(int64_t line, int64_t band, int64_t column, int64_t columns, uint16_t* out) const {
    const uint8_t* in = first_ + line * line_step_ + band * band_step_ + column * column_step_;
    if (count_bytes() == 1) {
        for (int64_t i = 0; i < columns; ++i) out[i] = in[i * column_step_];
    } else if (column_step_ == 2) {
        std::memcpy(out, in, static_cast<size_t>(2 * columns));
    } else {
        for (int64_t i = 0; i < columns; ++i) std::memcpy(out + i, in + i * column_step_, 2);
    }
}

}  // namespace vcam

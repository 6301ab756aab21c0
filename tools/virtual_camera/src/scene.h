// What the camera sees: a file of counts under a memory map, or a test pattern.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace vcam {

struct SceneSettings {
    std::string file;     // empty: the test pattern
    int64_t offset = 0;   // bytes before the first count
    int64_t lines = 0;    // 0: as many as the file holds
    int64_t bands = 0;    // rows of the sensor
    int64_t samples = 0;  // columns of the sensor
    int64_t bits = 12;    // of a count; up to 8: one byte each, above: two, little endian
    int64_t interleave = 0;  // Interleave, as a number

    bool operator==(const SceneSettings& other) const;
};

enum Interleave : int64_t { kBil = 0, kBip = 1, kBsq = 2 };

class Scene {
public:
    explicit Scene(const SceneSettings& settings);
    ~Scene();
    Scene(const Scene&) = delete;
    Scene& operator=(const Scene&) = delete;

    int64_t lines() const { return lines_; }
    int64_t bands() const { return settings_.bands; }
    int64_t samples() const { return settings_.samples; }
    int bits() const { return static_cast<int>(settings_.bits); }
    size_t count_bytes() const { return settings_.bits <= 8 ? 1 : 2; }
    const SceneSettings& settings() const { return settings_; }

    // The counts of `samples` columns of one band of a line as they lie in memory; null where the
    // interleave does not have them side by side.
    const uint8_t* row(int64_t line, int64_t band, int64_t column) const;
    // Copies them as 16-bit counts whatever the interleave.
    void copy(int64_t line, int64_t band, int64_t column, int64_t columns, uint16_t* out) const;
    // Rows of a line follow each other without a gap.
    bool rows_follow() const { return settings_.interleave == kBil; }

private:
    void make_pattern();
    void open_file();

    SceneSettings settings_;
    int64_t lines_ = 0;
    int64_t line_step_ = 0, band_step_ = 0, column_step_ = 0;  // bytes
    const uint8_t* first_ = nullptr;
    void* map_ = nullptr;
    size_t map_bytes_ = 0;
    std::unique_ptr<uint16_t[]> pattern_ = {};
};

}  // namespace vcam

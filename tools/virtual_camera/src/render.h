// How the sensor sees the scene: region, binning, exposure, gain, black level, pixel format.
//
// A count of the file is signal over SceneBlackLevel, recorded at SceneExposureTime. Of a pixel:
//   signal  = sum over the bin of (count - SceneBlackLevel)
//   counts  = round(signal * scale + BlackLevel), half to even, cut to 0 … full scale of the scene
//   scale   = ExposureTime / SceneExposureTime * 10^(Gain / 20), in Average mode over the bin's size
// in single precision (scale rounded once from double), so that a test can compute the same; then
// shifted to the bits of the pixel format.
#pragma once

#include <vector>

#include "pixel_formats.h"
#include "scene.h"

namespace vcam {

struct View {
    std::shared_ptr<const Scene> scene;
    bool linescan = false;
    int64_t width = 0, height = 0, x = 0, y = 0;  // binned pixels; of a line scan height is lines
    int64_t bin_x = 1, bin_y = 1;
    bool average_x = false, average_y = false;
    int64_t row = 0;  // of the sensor, that a line scan reads
    double exposure_us = 1.0, scene_exposure_us = 1.0;
    double gain_db = 0.0;
    double black = 0.0, scene_black = 0.0;
    bool dark = false;  // the shutter is closed
    const MonoFormat* format = nullptr;
    size_t padding = 0;  // bytes at the end of each row

    size_t row_bytes() const { return format->bytes(static_cast<size_t>(width)) + padding; }
    size_t image_bytes() const {
        if (padding != 0) return row_bytes() * static_cast<size_t>(height);
        return format->bytes(static_cast<size_t>(width * height));
    }
    // Counts leave as they lie in the file.
    bool neutral() const;
    bool operator==(const View& other) const;
};

class Renderer {
public:
    // Frames that had to be computed are kept, up to so many bytes, so that the camera is never
    // what limits a measurement.
    explicit Renderer(size_t keep_bytes) : keep_bytes_(keep_bytes) {}

    void look(const View& view);
    const View& view() const { return view_; }
    // Writes the first `bytes` bytes of the frame that begins at a line of the scene.
    void frame(int64_t line, uint8_t* out, size_t bytes);

private:
    void render(int64_t line, uint8_t* out);
    void counts_of_row(int64_t line, int64_t row, uint16_t* out);
    bool copy_whole(int64_t line, uint8_t* out, size_t bytes) const;

    View view_ = {};
    bool neutral_ = false;
    float scale_ = 1.0F;
    size_t keep_bytes_, kept_bytes_ = 0;
    std::vector<std::vector<uint8_t>> kept_ = {};
    std::vector<uint8_t> whole_ = {};
    std::vector<uint16_t> wide_ = {}, counts_ = {};
    std::vector<int32_t> sums_ = {};
};

}  // namespace vcam

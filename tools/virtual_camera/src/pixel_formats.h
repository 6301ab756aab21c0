// Monochrome pixel formats: their PFNC codes, their bit layouts, and how counts get there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace vcam {

// none: one count per byte or little-endian 16-bit word. lsb: counts follow each other bit by bit,
// least significant first (the p formats). gige: two counts in three bytes, high bits in the outer
// ones, the low bits of both in the middle one (the Packed formats).
enum class Packing { none, lsb, gige };

struct MonoFormat {
    std::string name;
    int64_t code;  // PFNC 2.x, 32 bit
    int bits;
    Packing packing;

    size_t bytes(size_t pixels) const;
};

const std::vector<MonoFormat>& pixel_formats();
const MonoFormat& pixel_format(int64_t code);

// Writes counts, which fit the format's bits, in its layout; format.bytes(pixels) bytes.
void pack(const MonoFormat& format, const uint16_t* counts, size_t pixels, uint8_t* out);

}  // namespace vcam

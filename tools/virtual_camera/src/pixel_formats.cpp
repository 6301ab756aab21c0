#include "pixel_formats.h"

#include <cstring>

#include "module.h"

namespace vcam {
namespace {

// Four counts of 10 bits in five bytes, two of 12 bits in three.
void pack_lsb10(const uint16_t* in, size_t pixels, uint8_t* out) {
    for (; pixels >= 4; pixels -= 4, in += 4, out += 5) {
        out[0] = static_cast<uint8_t>(in[0]);
        out[1] = static_cast<uint8_t>(in[0] >> 8 | in[1] << 2);
        out[2] = static_cast<uint8_t>(in[1] >> 6 | in[2] << 4);
        out[3] = static_cast<uint8_t>(in[2] >> 4 | in[3] << 6);
        out[4] = static_cast<uint8_t>(in[3] >> 2);
    }
    if (pixels == 0) return;
    uint16_t last[4] = {};
    uint8_t bytes[5];
    std::memcpy(last, in, pixels * sizeof *in);
    pack_lsb10(last, 4, bytes);
    std::memcpy(out, bytes, (pixels * 10 + 7) / 8);
}

void pack_lsb12(const uint16_t* in, size_t pixels, uint8_t* out) {
    for (; pixels >= 2; pixels -= 2, in += 2, out += 3) {
        out[0] = static_cast<uint8_t>(in[0]);
        out[1] = static_cast<uint8_t>(in[0] >> 8 | in[1] << 4);
        out[2] = static_cast<uint8_t>(in[1] >> 4);
    }
    if (pixels == 0) return;
    out[0] = static_cast<uint8_t>(in[0]);
    out[1] = static_cast<uint8_t>(in[0] >> 8);
}

void pack_gige(const uint16_t* in, size_t pixels, int low, uint8_t* out) {
    const int mask = (1 << low) - 1;
    for (; pixels >= 2; pixels -= 2, in += 2, out += 3) {
        out[0] = static_cast<uint8_t>(in[0] >> low);
        out[1] = static_cast<uint8_t>((in[0] & mask) | (in[1] & mask) << 4);
        out[2] = static_cast<uint8_t>(in[1] >> low);
    }
    if (pixels == 0) return;
    out[0] = static_cast<uint8_t>(in[0] >> low);
    out[1] = static_cast<uint8_t>(in[0] & mask);
    out[2] = 0;
}

}  // namespace

size_t MonoFormat::bytes(size_t pixels) const {
    switch (packing) {
        case Packing::none: return bits <= 8 ? pixels : 2 * pixels;
        case Packing::lsb: return (pixels * static_cast<size_t>(bits) + 7) / 8;
        case Packing::gige: break;
    }
    return (pixels + 1) / 2 * 3;
}

const std::vector<MonoFormat>& pixel_formats() {
    // Never destroyed: an acquisition may still run while its process exits.
    static const auto& all = *new std::vector<MonoFormat>{
        {"Mono8", 0x01080001, 8, Packing::none},
        {"Mono10", 0x01100003, 10, Packing::none},
        {"Mono10p", 0x010A0046, 10, Packing::lsb},
        {"Mono10Packed", 0x010C0004, 10, Packing::gige},
        {"Mono12", 0x01100005, 12, Packing::none},
        {"Mono12p", 0x010C0047, 12, Packing::lsb},
        {"Mono12Packed", 0x010C0006, 12, Packing::gige},
        {"Mono14", 0x01100025, 14, Packing::none},
        {"Mono16", 0x01100007, 16, Packing::none},
    };
    return all;
}

const MonoFormat& pixel_format(int64_t code) {
    for (const auto& format : pixel_formats()) {
        if (format.code == code) return format;
    }
    fail(GC_ERR_INVALID_VALUE, "no such pixel format");
}

void pack(const MonoFormat& format, const uint16_t* counts, size_t pixels, uint8_t* out) {
    if (format.packing == Packing::gige) {
        pack_gige(counts, pixels, format.bits - 8, out);
    } else if (format.packing == Packing::lsb) {
        (format.bits == 10 ? pack_lsb10 : pack_lsb12)(counts, pixels, out);
    } else if (format.bits <= 8) {
        for (size_t i = 0; i < pixels; ++i) out[i] = static_cast<uint8_t>(counts[i]);
    } else {
        std::memcpy(out, counts, 2 * pixels);
    }
}

}  // namespace vcam

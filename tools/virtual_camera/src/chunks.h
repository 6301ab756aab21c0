// Chunk data: what the camera says about a frame, behind its pixels.
//
// [image, filled up to a multiple of 4][id, length] [value][id, length] … as GigE Vision and USB3
// Vision have it: the trailer of a chunk stands behind it, so that a reader starts at the end.
// GigE Vision writes the trailers big-endian, USB3 Vision little-endian; values are little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "gentl.h"

namespace vcam {

enum ChunkId : uint32_t {
    kChunkImage = 0x1,
    kChunkTimestamp = 0x1001,
    kChunkFrameId = 0x1002,
    kChunkExposureTime = 0x1003,
    kChunkLineStatusAll = 0x1004,
    kChunkEncoderValue = 0x1005,
};

struct ChunkKind {
    ChunkId id;
    const char* name;     // entry of ChunkSelector
    const char* feature;  // under which GenApi shows the value
    bool real;
};
const std::vector<ChunkKind>& chunk_kinds();

struct ChunkValues {
    int64_t timestamp = 0, frame_id = 0, line_status = 0, encoder = 0;
    double exposure_us = 0.0;
};

// Bytes of a frame with the chunks whose ids are given.
size_t with_chunks(size_t image_bytes, size_t chunks);
// Writes what stands behind the image; the layout for DSGetBufferChunkData comes back.
std::vector<SINGLE_CHUNK_DATA> write_chunks(uint8_t* frame, size_t image_bytes,
                                            const std::vector<ChunkId>& ids,
                                            const ChunkValues& values, bool big_endian_trailers);
// Nodes for the camera's description.
std::string chunk_xml();

}  // namespace vcam

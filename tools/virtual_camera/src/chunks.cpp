#include "chunks.h"

#include <cstdio>
#include <cstring>

namespace vcam {
namespace {

constexpr size_t kTrailer = 8, kValue = 8;

size_t filled_up(size_t bytes) { return (bytes + 3) / 4 * 4; }

uint8_t* put_trailer(uint8_t* at, uint32_t id, size_t length, bool big_endian) {
    uint32_t words[2] = {id, static_cast<uint32_t>(length)};
    for (auto& word : words) {
        if (big_endian) word = __builtin_bswap32(word);
    }
    std::memcpy(at, words, kTrailer);
    return at + kTrailer;
}

}  // namespace

const std::vector<ChunkKind>& chunk_kinds() {
    // Never destroyed: an acquisition may still run while its process exits.
    static const auto& all = *new std::vector<ChunkKind>{
        {kChunkTimestamp, "Timestamp", "ChunkTimestamp", false},
        {kChunkFrameId, "FrameID", "ChunkFrameID", false},
        {kChunkExposureTime, "ExposureTime", "ChunkExposureTime", true},
        {kChunkLineStatusAll, "LineStatusAll", "ChunkLineStatusAll", false},
        {kChunkEncoderValue, "EncoderValue", "ChunkEncoderValue", false},
    };
    return all;
}

size_t with_chunks(size_t image_bytes, size_t chunks) {
    return filled_up(image_bytes) + kTrailer + chunks * (kValue + kTrailer);
}

std::vector<SINGLE_CHUNK_DATA> write_chunks(uint8_t* frame, size_t image_bytes,
                                            const std::vector<ChunkId>& ids,
                                            const ChunkValues& values, bool big_endian) {
    std::vector<SINGLE_CHUNK_DATA> layout;
    const size_t image = filled_up(image_bytes);
    std::memset(frame + image_bytes, 0, image - image_bytes);
    uint8_t* at = put_trailer(frame + image, kChunkImage, image, big_endian);
    layout.push_back({kChunkImage, 0, image});
    for (const auto id : ids) {
        layout.push_back({id, at - frame, kValue});
        switch (id) {
            case kChunkTimestamp: std::memcpy(at, &values.timestamp, kValue); break;
            case kChunkFrameId: std::memcpy(at, &values.frame_id, kValue); break;
            case kChunkExposureTime: std::memcpy(at, &values.exposure_us, kValue); break;
            case kChunkLineStatusAll: std::memcpy(at, &values.line_status, kValue); break;
            case kChunkEncoderValue: std::memcpy(at, &values.encoder, kValue); break;
            case kChunkImage: break;
        }
        at = put_trailer(at + kValue, id, kValue, big_endian);
    }
    return layout;
}

std::string chunk_xml() {
    std::string out;
    for (const auto& kind : chunk_kinds()) {
        const std::string name = kind.feature, node = kind.real ? "Float" : "Integer";
        char id[16];
        std::snprintf(id, sizeof id, "%X", static_cast<unsigned>(kind.id));
        out += "<" + node + " Name=\"" + name + "\" NameSpace=\"Standard\"><pValue>" + name +
               "_Reg</pValue></" + node + ">\n";
        const std::string reg = kind.real ? "FloatReg" : "IntReg";
        out += "<" + reg + " Name=\"" + name + "_Reg\"><Address>0</Address><Length>8</Length>" +
               "<AccessMode>RO</AccessMode><pPort>" + name + "_Port</pPort>" +
               "<Cachable>NoCache</Cachable>" + (kind.real ? "" : "<Sign>Signed</Sign>") +
               "<Endianess>LittleEndian</Endianess></" + reg + ">\n";
        out += "<Port Name=\"" + name + "_Port\"><ChunkID>" + id + "</ChunkID></Port>\n";
    }
    return out;
}

}  // namespace vcam

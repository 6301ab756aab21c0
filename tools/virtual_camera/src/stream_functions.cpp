// The C functions of data streams; what they do is in stream.cpp.

#include "system.h"

using namespace vcam;

GC_ERROR DSAnnounceBuffer(DS_HANDLE stream, void* memory, size_t size, void* user,
                          BUFFER_HANDLE* buffer) {
    return guarded([&] {
        const auto found = find<Stream>(stream);
        given(buffer, "the buffer") = found->announce(memory, size, user, false);
    });
}

GC_ERROR DSAllocAndAnnounceBuffer(DS_HANDLE stream, size_t size, void* user,
                                  BUFFER_HANDLE* buffer) {
    return guarded([&] {
        const auto found = find<Stream>(stream);
        given(buffer, "the buffer") = found->announce(nullptr, size, user, true);
    });
}

GC_ERROR DSFlushQueue(DS_HANDLE stream, ACQ_QUEUE_TYPE operation) {
    return guarded([&] { find<Stream>(stream)->flush(operation); });
}

GC_ERROR DSStartAcquisition(DS_HANDLE stream, ACQ_START_FLAGS flags, uint64_t count) {
    return guarded([&] { find<Stream>(stream)->start(flags, count); });
}

GC_ERROR DSStopAcquisition(DS_HANDLE stream, ACQ_STOP_FLAGS flags) {
    return guarded([&] { find<Stream>(stream)->stop(flags); });
}

GC_ERROR DSGetInfo(DS_HANDLE stream, STREAM_INFO_CMD cmd, INFO_DATATYPE* type, void* buffer,
                   size_t* size) {
    return guarded([&] { find<Stream>(stream)->info(cmd, Answer(type, buffer, size)); });
}

GC_ERROR DSGetBufferID(DS_HANDLE stream, uint32_t index, BUFFER_HANDLE* buffer) {
    return guarded([&] {
        const auto found = find<Stream>(stream);
        given(buffer, "the buffer") = found->buffer_at(index);
    });
}

GC_ERROR DSClose(DS_HANDLE stream) {
    return guarded([&] {
        const auto found = find<Stream>(stream);
        find<Device>(found->device())->stream_closed();
        found->close();
        delist(stream);
    });
}

GC_ERROR DSRevokeBuffer(DS_HANDLE stream, BUFFER_HANDLE buffer, void** memory, void** user) {
    return guarded([&] { find<Stream>(stream)->revoke(buffer, memory, user); });
}

GC_ERROR DSQueueBuffer(DS_HANDLE stream, BUFFER_HANDLE buffer) {
    return guarded([&] { find<Stream>(stream)->queue(buffer); });
}

GC_ERROR DSGetBufferInfo(DS_HANDLE stream, BUFFER_HANDLE buffer, BUFFER_INFO_CMD cmd,
                         INFO_DATATYPE* type, void* out, size_t* size) {
    return guarded([&] {
        find<Stream>(stream)->buffer_info(buffer, cmd, Answer(type, out, size));
    });
}

GC_ERROR DSGetBufferChunkData(DS_HANDLE stream, BUFFER_HANDLE buffer, SINGLE_CHUNK_DATA* chunks,
                              size_t* count) {
    return guarded([&] { find<Stream>(stream)->chunk_data(buffer, chunks, count); });
}

GC_ERROR DSGetParentDev(DS_HANDLE stream, DEV_HANDLE* device) {
    return guarded([&] {
        const auto found = find<Stream>(stream);
        given(device, "the device") = found->device();
    });
}

GC_ERROR DSGetNumBufferParts(DS_HANDLE stream, BUFFER_HANDLE buffer, uint32_t* count) {
    return guarded([&] {
        find<Stream>(stream)->check_buffer(buffer);
        given(count, "the count");
        fail(GC_ERR_NO_DATA, "the payload has no parts");
    });
}

GC_ERROR DSGetBufferPartInfo(DS_HANDLE stream, BUFFER_HANDLE buffer, uint32_t, BUFFER_PART_INFO_CMD,
                             INFO_DATATYPE*, void*, size_t* size) {
    return guarded([&] {
        find<Stream>(stream)->check_buffer(buffer);
        given(size, "the size");
        fail(GC_ERR_NO_DATA, "the payload has no parts");
    });
}

GC_ERROR DSAnnounceCompositeBuffer(DS_HANDLE stream, size_t, void**, size_t*, void*,
                                   BUFFER_HANDLE*) {
    return guarded([&] {
        find<Stream>(stream);
        fail(GC_ERR_NOT_IMPLEMENTED, "the stream has no composite buffers");
    });
}

GC_ERROR DSGetNumFlows(DS_HANDLE stream, uint32_t* count) {
    return guarded([&] {
        find<Stream>(stream);
        given(count, "the count") = 0;
    });
}

GC_ERROR DSGetFlowInfo(DS_HANDLE stream, uint32_t, FLOW_INFO_CMD, INFO_DATATYPE*, void*, size_t*) {
    return guarded([&] {
        find<Stream>(stream);
        fail(GC_ERR_INVALID_INDEX, "the stream has no flows");
    });
}

GC_ERROR DSGetNumBufferSegments(DS_HANDLE stream, BUFFER_HANDLE buffer, uint32_t* count) {
    return guarded([&] {
        find<Stream>(stream)->check_buffer(buffer);
        given(count, "the count") = 0;
    });
}

GC_ERROR DSGetBufferSegmentInfo(DS_HANDLE stream, BUFFER_HANDLE buffer, uint32_t, SEGMENT_INFO_CMD,
                                INFO_DATATYPE*, void*, size_t*) {
    return guarded([&] {
        find<Stream>(stream)->check_buffer(buffer);
        fail(GC_ERR_INVALID_INDEX, "the buffer has no segments");
    });
}

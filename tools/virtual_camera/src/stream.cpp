#include "stream.h"

#include <algorithm>

namespace vcam {

Stream::Stream(std::shared_ptr<Camera> camera, void* device)
    : camera_(std::move(camera)), device_(device),
      registers_("DataStream", "StreamInformation",
                 {{"StreamID", kStreamId}, {"StreamType", camera_->identity().tl_type}}) {}

PortFacts Stream::facts() const {
    return {kStreamId, kVendor, "DataStream", camera_->identity().tl_type, "TLDataStream", false};
}

void* Stream::register_event(EVENT_TYPE type) {
    if (type == EVENT_NEW_BUFFER) return events_.add(type, weak_from_this());
    return Port::register_event(type);
}

void Stream::check_alive() const {
    if (camera_->lost()) fail(GC_ERR_IO, "the device does not answer");
}

GC_ERROR Stream::trouble() {
    return camera_->lost() && !camera_->silent_when_lost() ? GC_ERR_IO : GC_ERR_SUCCESS;
}

// -- the acquisition's side ----------------------------------------------------------------------

bool Stream::await_buffer(int timeout_ms) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                             [this] { return grabbing_ && left_ > 0 && !input_.empty(); });
}

bool Stream::deliver(const std::function<FrameInfo(uint8_t*, size_t)>& fill) {
    Buffer* buffer = nullptr;
    {
        const std::lock_guard lock(mutex_);
        if (!grabbing_ || left_ == 0) return false;
        ++started_;
        if (input_.empty()) {
            ++underrun_;
            return false;
        }
        buffer = input_.front();
        input_.pop_front();
        buffer->place = Buffer::Place::acquiring;
    }
    // Nobody else touches a buffer that is being filled: it can be neither queued nor revoked.
    auto frame = fill(buffer->memory, buffer->size);
    {
        const std::lock_guard lock(mutex_);
        buffer->frame = std::move(frame);
        buffer->new_data = true;
        buffer->place = Buffer::Place::output;
        output_.push_back(buffer);
        ++delivered_;
        ++fired_;
        if (left_ != GENTL_INFINITE) --left_;
        changed_.notify_all();
    }
    events_.wake(EVENT_NEW_BUFFER);
    return true;
}

// -- the consumer's side -------------------------------------------------------------------------

size_t Stream::waiting() {
    const std::lock_guard lock(mutex_);
    return output_.size();
}

uint64_t Stream::fired() {
    const std::lock_guard lock(mutex_);
    return fired_;
}

bool Stream::take(EVENT_NEW_BUFFER_DATA& data) {
    const std::lock_guard lock(mutex_);
    if (output_.empty()) return false;
    auto* const buffer = output_.front();
    output_.pop_front();
    buffer->place = Buffer::Place::idle;
    data = {buffer->handle, buffer->user};
    return true;
}

Buffer& Stream::known(BUFFER_HANDLE handle) {
    const auto found = buffers_.find(handle);
    if (found == buffers_.end()) fail(GC_ERR_INVALID_HANDLE, "no such buffer is announced");
    return *found->second;
}

BUFFER_HANDLE Stream::announce(void* memory, size_t size, void* user, bool own) {
    check_alive();
    if (size == 0) fail(GC_ERR_INVALID_PARAMETER, "a buffer needs a size");
    if (!own) given(static_cast<char*>(memory), "the memory");
    auto buffer = std::make_unique<Buffer>();
    if (own) {
        if (size > size_t{1} << 40) fail(GC_ERR_OUT_OF_MEMORY, "the buffer is too large");
        buffer->own = std::make_unique<uint8_t[]>(size);
        memory = buffer->own.get();
    }
    buffer->memory = static_cast<uint8_t*>(memory);
    buffer->size = size;
    buffer->user = user;
    const std::lock_guard lock(mutex_);
    if (closed_) fail(GC_ERR_INVALID_HANDLE, "the stream is closed");
    for (const auto& [handle, other] : buffers_) {
        if (other->memory == buffer->memory) {
            fail(GC_ERR_RESOURCE_IN_USE, "this memory is announced");
        }
    }
    // Taken from the list of all handles, so that no buffer is ever mistaken for something else.
    const auto token = std::make_shared<Handled>();
    buffer->handle = enlist(token);
    delist(buffer->handle);
    const auto handle = buffer->handle;
    order_.push_back(handle);
    buffers_[handle] = std::move(buffer);
    return handle;
}

void Stream::revoke(BUFFER_HANDLE handle, void** memory, void** user) {
    const std::lock_guard lock(mutex_);
    auto& buffer = known(handle);
    if (buffer.place != Buffer::Place::idle) {
        fail(GC_ERR_BUSY, "the buffer is in a queue; flush the queues first");
    }
    // Memory of the producer's own goes with the buffer.
    if (memory != nullptr) *memory = buffer.own ? nullptr : buffer.memory;
    if (user != nullptr) *user = buffer.user;
    order_.erase(std::find(order_.begin(), order_.end(), handle));
    buffers_.erase(handle);
}

void Stream::queue(BUFFER_HANDLE handle) {
    if (trouble() != GC_ERR_SUCCESS) check_alive();
    const std::lock_guard lock(mutex_);
    auto& buffer = known(handle);
    if (buffer.place != Buffer::Place::idle) {
        fail(GC_ERR_RESOURCE_IN_USE, "the buffer is in a queue already");
    }
    buffer.place = Buffer::Place::input;
    buffer.new_data = false;
    input_.push_back(&buffer);
    changed_.notify_all();
}

void Stream::flush(ACQ_QUEUE_TYPE operation) {
    {
        const std::lock_guard lock(mutex_);
        const auto empty = [](std::deque<Buffer*>& queue) {
            for (auto* const buffer : queue) buffer->place = Buffer::Place::idle;
            queue.clear();
        };
        const auto idle_to_input = [this] {
            for (const auto handle : order_) {
                auto& buffer = *buffers_[handle];
                if (buffer.place != Buffer::Place::idle) continue;
                buffer.place = Buffer::Place::input;
                buffer.new_data = false;
                input_.push_back(&buffer);
            }
        };
        switch (operation) {
            case ACQ_QUEUE_INPUT_TO_OUTPUT:
                for (auto* const buffer : input_) {
                    buffer->place = Buffer::Place::output;
                    buffer->frame = {};
                    output_.push_back(buffer);
                    ++fired_;
                }
                input_.clear();
                break;
            case ACQ_QUEUE_OUTPUT_DISCARD: empty(output_); break;
            case ACQ_QUEUE_ALL_TO_INPUT:
                empty(output_);
                idle_to_input();
                break;
            case ACQ_QUEUE_UNQUEUED_TO_INPUT: idle_to_input(); break;
            case ACQ_QUEUE_ALL_DISCARD:
                empty(input_);
                empty(output_);
                break;
            default: fail(GC_ERR_INVALID_PARAMETER, "no such operation on the queues");
        }
        changed_.notify_all();
    }
    events_.wake(EVENT_NEW_BUFFER);
}

void Stream::start(ACQ_START_FLAGS flags, uint64_t frames) {
    check_alive();
    if (flags != ACQ_START_FLAGS_DEFAULT || frames == 0) {
        fail(GC_ERR_INVALID_PARAMETER, "no such way to start");
    }
    {
        const std::lock_guard lock(mutex_);
        if (grabbing_) fail(GC_ERR_RESOURCE_IN_USE, "the acquisition is started already");
        grabbing_ = true;
        left_ = frames;
        delivered_ = underrun_ = started_ = 0;
        changed_.notify_all();
    }
    camera_->set_sink(shared_from_this());
}

void Stream::stop(ACQ_STOP_FLAGS flags) {
    if (flags != ACQ_STOP_FLAGS_DEFAULT && flags != ACQ_STOP_FLAGS_KILL) {
        fail(GC_ERR_INVALID_PARAMETER, "no such way to stop");
    }
    {
        std::unique_lock lock(mutex_);
        if (!grabbing_) fail(GC_ERR_RESOURCE_IN_USE, "the acquisition is not started");
        grabbing_ = false;
        changed_.notify_all();
        // The frame that is being written is finished: afterwards the buffers are the consumer's.
        changed_.wait(lock, [this] {
            return std::none_of(buffers_.begin(), buffers_.end(), [](const auto& entry) {
                return entry.second->place == Buffer::Place::acquiring;
            });
        });
    }
    camera_->set_sink(nullptr);
}

void Stream::close() {
    try {
        stop(ACQ_STOP_FLAGS_KILL);
    } catch (const Error&) {
        // It was not started.
    }
    events_.remove_all();
    const std::lock_guard lock(mutex_);
    closed_ = true;
    input_.clear();
    output_.clear();
    buffers_.clear();
    order_.clear();
}

BUFFER_HANDLE Stream::buffer_at(uint32_t index) {
    const std::lock_guard lock(mutex_);
    if (index >= order_.size()) fail(GC_ERR_INVALID_INDEX, "no so many buffers are announced");
    return order_[index];
}

void Stream::check_buffer(BUFFER_HANDLE buffer) {
    const std::lock_guard lock(mutex_);
    known(buffer);
}

void Stream::info(STREAM_INFO_CMD cmd, Answer answer) {
    const size_t payload = cmd == STREAM_INFO_PAYLOAD_SIZE ? camera_->payload_size() : 0;
    const std::lock_guard lock(mutex_);
    switch (cmd) {
        case STREAM_INFO_ID: return answer.text(kStreamId);
        case STREAM_INFO_NUM_DELIVERED: return answer.uint64(delivered_);
        case STREAM_INFO_NUM_UNDERRUN: return answer.uint64(underrun_);
        case STREAM_INFO_NUM_ANNOUNCED: return answer.size(buffers_.size());
        case STREAM_INFO_NUM_QUEUED: return answer.size(input_.size());
        case STREAM_INFO_NUM_AWAIT_DELIVERY: return answer.size(output_.size());
        case STREAM_INFO_NUM_STARTED: return answer.uint64(started_);
        case STREAM_INFO_PAYLOAD_SIZE: return answer.size(payload);
        case STREAM_INFO_IS_GRABBING: return answer.boolean(grabbing_);
        case STREAM_INFO_DEFINES_PAYLOADSIZE: return answer.boolean(true);
        case STREAM_INFO_TLTYPE: return answer.text(camera_->identity().tl_type);
        case STREAM_INFO_NUM_CHUNKS_MAX: return answer.size(1 + chunk_kinds().size());
        case STREAM_INFO_BUF_ANNOUNCE_MIN: return answer.size(1);
        case STREAM_INFO_BUF_ALIGNMENT: return answer.size(1);
        default: fail(GC_ERR_NOT_IMPLEMENTED, "no such information about a stream");
    }
}

void Stream::buffer_info(BUFFER_HANDLE handle, BUFFER_INFO_CMD cmd, Answer answer) {
    const std::lock_guard lock(mutex_);
    const auto& buffer = known(handle);
    const auto& frame = buffer.frame;
    switch (cmd) {
        case BUFFER_INFO_BASE: return answer.pointer(buffer.memory);
        case BUFFER_INFO_SIZE: return answer.size(buffer.size);
        case BUFFER_INFO_USER_PTR: return answer.pointer(buffer.user);
        case BUFFER_INFO_TLTYPE: return answer.text(camera_->identity().tl_type);
        case BUFFER_INFO_NEW_DATA: return answer.boolean(buffer.new_data);
        case BUFFER_INFO_IS_QUEUED: return answer.boolean(buffer.place == Buffer::Place::input);
        case BUFFER_INFO_IS_ACQUIRING:
            return answer.boolean(buffer.place == Buffer::Place::acquiring);
        case BUFFER_INFO_IS_INCOMPLETE: return answer.boolean(frame.incomplete);
        case BUFFER_INFO_SIZE_FILLED:
        case BUFFER_INFO_DATA_SIZE: return answer.size(frame.filled);
        case BUFFER_INFO_IMAGEPRESENT: return answer.boolean(frame.filled > 0);
        case BUFFER_INFO_DATA_LARGER_THAN_BUFFER: return answer.boolean(frame.larger_than_buffer);
        case BUFFER_INFO_CONTAINS_CHUNKDATA: return answer.boolean(!frame.chunks.empty());
        case BUFFER_INFO_FILENAME: fail(GC_ERR_NOT_AVAILABLE, "the payload is no file");
        default: break;
    }
    if (cmd < BUFFER_INFO_BASE || cmd > BUFFER_INFO_CONTAINS_CHUNKDATA) {
        fail(GC_ERR_NOT_IMPLEMENTED, "no such information about a buffer");
    }
    if (frame.pixel_format == 0) fail(GC_ERR_NO_DATA, "the buffer has not been filled");
    switch (cmd) {
        case BUFFER_INFO_TIMESTAMP: return answer.uint64(frame.ticks);
        case BUFFER_INFO_TIMESTAMP_NS: return answer.uint64(frame.ns);
        case BUFFER_INFO_WIDTH: return answer.size(static_cast<size_t>(frame.width));
        case BUFFER_INFO_HEIGHT: return answer.size(static_cast<size_t>(frame.height));
        case BUFFER_INFO_XOFFSET: return answer.size(static_cast<size_t>(frame.x));
        case BUFFER_INFO_YOFFSET: return answer.size(static_cast<size_t>(frame.y));
        case BUFFER_INFO_XPADDING: return answer.size(frame.padding);
        case BUFFER_INFO_YPADDING: return answer.size(0);
        case BUFFER_INFO_FRAMEID: return answer.uint64(frame.id);
        case BUFFER_INFO_IMAGEOFFSET: return answer.size(0);
        case BUFFER_INFO_PAYLOADTYPE:
            return answer.size(frame.chunks.empty() ? PAYLOAD_TYPE_IMAGE : PAYLOAD_TYPE_CHUNK_DATA);
        case BUFFER_INFO_PIXELFORMAT:
            return answer.uint64(static_cast<uint64_t>(frame.pixel_format));
        case BUFFER_INFO_PIXELFORMAT_NAMESPACE:
            return answer.uint64(PIXELFORMAT_NAMESPACE_PFNC_32BIT);
        case BUFFER_INFO_DELIVERED_IMAGEHEIGHT: return answer.size(frame.delivered_height);
        case BUFFER_INFO_DELIVERED_CHUNKPAYLOADSIZE:
            return answer.size(frame.chunks.empty() ? 0 : frame.filled);
        case BUFFER_INFO_CHUNKLAYOUTID: return answer.uint64(frame.chunk_layout);
        default: return answer.int32(PIXELENDIANNESS_LITTLE);
    }
}

void Stream::chunk_data(BUFFER_HANDLE handle, SINGLE_CHUNK_DATA* chunks, size_t* count) {
    given(count, "the count");
    const std::lock_guard lock(mutex_);
    const auto& all = known(handle).frame.chunks;
    const size_t room = *count;
    *count = all.size();
    if (all.empty()) fail(GC_ERR_NO_DATA, "the buffer has no chunks");
    if (chunks == nullptr) return;
    if (room < all.size()) fail(GC_ERR_BUFFER_TOO_SMALL, "the list of chunks is too short");
    std::memcpy(chunks, all.data(), all.size() * sizeof all[0]);
}

}  // namespace vcam

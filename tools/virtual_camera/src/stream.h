// The data stream: announced buffers, the queue of those to fill and the queue of those filled.
#pragma once

#include <unordered_map>

#include "camera.h"
#include "port.h"

namespace vcam {

constexpr const char* kStreamId = "Stream0";

struct Buffer {
    BUFFER_HANDLE handle = nullptr;
    uint8_t* memory = nullptr;
    size_t size = 0;
    void* user = nullptr;
    std::unique_ptr<uint8_t[]> own = {};  // where the producer allocated it
    enum class Place { idle, input, acquiring, output } place = Place::idle;
    bool new_data = false;
    FrameInfo frame = {};
};

class Stream : public Port, public FrameSink, public BufferQueue,
               public std::enable_shared_from_this<Stream> {
public:
    Stream(std::shared_ptr<Camera> camera, void* device);

    // Port
    PortFacts facts() const override;
    Registers& registers() override { return registers_; }
    void* register_event(EVENT_TYPE type) override;

    // FrameSink, called by the acquisition's thread
    bool await_buffer(int timeout_ms) override;
    bool deliver(const std::function<FrameInfo(uint8_t*, size_t)>& fill) override;

    // BufferQueue
    size_t waiting() override;
    uint64_t fired() override;
    bool take(EVENT_NEW_BUFFER_DATA& data) override;
    void discard() override { flush(ACQ_QUEUE_OUTPUT_DISCARD); }
    GC_ERROR trouble() override;

    BUFFER_HANDLE announce(void* memory, size_t size, void* user, bool own);
    void revoke(BUFFER_HANDLE buffer, void** memory, void** user);
    void queue(BUFFER_HANDLE buffer);
    void flush(ACQ_QUEUE_TYPE operation);
    void start(ACQ_START_FLAGS flags, uint64_t frames);
    void stop(ACQ_STOP_FLAGS flags);
    void info(STREAM_INFO_CMD cmd, Answer answer);
    void buffer_info(BUFFER_HANDLE buffer, BUFFER_INFO_CMD cmd, Answer answer);
    void chunk_data(BUFFER_HANDLE buffer, SINGLE_CHUNK_DATA* chunks, size_t* count);
    BUFFER_HANDLE buffer_at(uint32_t index);
    void check_buffer(BUFFER_HANDLE buffer);
    void close();
    void* device() const { return device_; }

private:
    Buffer& known(BUFFER_HANDLE handle);
    void check_alive() const;

    const std::shared_ptr<Camera> camera_;
    void* const device_;
    PlainRegisters registers_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::unordered_map<BUFFER_HANDLE, std::unique_ptr<Buffer>> buffers_ = {};
    std::vector<BUFFER_HANDLE> order_ = {};
    std::deque<Buffer*> input_ = {}, output_ = {};
    bool grabbing_ = false, closed_ = false;
    uint64_t left_ = 0;  // frames until the acquisition is complete
    uint64_t delivered_ = 0, underrun_ = 0, started_ = 0, fired_ = 0;
};

}  // namespace vcam

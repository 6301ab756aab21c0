// GenTL events: what a module tells consumers that registered for it.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>

#include "module.h"

namespace vcam {

// Event ids of EVENT_MODULE, in the range that standards leave to vendors.
constexpr uint64_t kEventDeviceLost = 0x9001;

struct EventData {
    uint64_t id = 0;    // of EVENT_MODULE
    GC_ERROR code = 0;  // of EVENT_ERROR
    std::string text = {};
};

// Where the events of EVENT_NEW_BUFFER come from: the stream's queue of filled buffers.
class BufferQueue {
public:
    virtual ~BufferQueue() = default;
    virtual size_t waiting() = 0;
    virtual uint64_t fired() = 0;
    // Takes the oldest; false when there is none.
    virtual bool take(EVENT_NEW_BUFFER_DATA& data) = 0;
    virtual void discard() = 0;
    // What stops a consumer from waiting; success when nothing does.
    virtual GC_ERROR trouble() = 0;
};

class Event : public Handled {
public:
    explicit Event(EVENT_TYPE type, std::weak_ptr<BufferQueue> buffers = {})
        : type_(type), buffers_(std::move(buffers)) {}

    void fire(const EventData& data);
    void wake();  // something changed outside
    void kill();
    void close();
    void get(void* buffer, size_t* size, uint64_t timeout_ms);
    void data_info(const void* data, size_t data_size, EVENT_DATA_INFO_CMD cmd, Answer answer) const;
    void info(EVENT_INFO_CMD cmd, Answer answer);
    void flush();

private:
    bool ready();
    size_t data_size() const;

    const EVENT_TYPE type_;
    const std::weak_ptr<BufferQueue> buffers_;
    std::mutex mutex_;
    std::condition_variable woken_;
    std::deque<EventData> queue_ = {};
    uint64_t fired_ = 0;
    int kills_ = 0, waiting_ = 0;
    bool closed_ = false;
};

// The events of one module.
class EventSource {
public:
    void* add(EVENT_TYPE type, std::weak_ptr<BufferQueue> buffers = {});
    void remove(EVENT_TYPE type);
    void remove_all();
    void fire(EVENT_TYPE type, const EventData& data);
    void wake(EVENT_TYPE type);

private:
    std::shared_ptr<Event> of(EVENT_TYPE type);

    std::mutex mutex_;
    std::map<EVENT_TYPE, std::shared_ptr<Event>> events_ = {};
};

}  // namespace vcam

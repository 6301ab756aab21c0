#include "events.h"

#include <chrono>
#include <cstdio>

#include "port.h"

namespace vcam {
namespace {

// Events that nobody fetches are kept up to this number, then the oldest is dropped.
constexpr size_t kKeep = 256;
// What EventGetData hands out for the events that are not EVENT_NEW_BUFFER.
struct Packed {
    uint64_t id;
    int64_t code;
    char text[240];
};

}  // namespace

size_t Event::data_size() const {
    return type_ == EVENT_NEW_BUFFER ? sizeof(EVENT_NEW_BUFFER_DATA) : sizeof(Packed);
}

void Event::fire(const EventData& data) {
    const std::lock_guard lock(mutex_);
    queue_.push_back(data);
    ++fired_;
    if (queue_.size() > kKeep) queue_.pop_front();
    woken_.notify_all();
}

void Event::wake() {
    const std::lock_guard lock(mutex_);
    woken_.notify_all();
}

void Event::kill() {
    const std::lock_guard lock(mutex_);
    // Each kill ends one wait; without one, the next wait, so that none is missed in between.
    if (kills_ < waiting_ + 1) ++kills_;
    woken_.notify_all();
}

void Event::close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    woken_.notify_all();
}

void Event::get(void* buffer, size_t* size, uint64_t timeout_ms) {
    given(size, "the size");
    if (buffer != nullptr && *size < data_size()) {
        fail(GC_ERR_BUFFER_TOO_SMALL, "an event needs " + std::to_string(data_size()) + " bytes");
    }
    const auto buffers = buffers_.lock();
    // Longer waits than a year are without end; this keeps the addition from overflowing.
    const bool endless = timeout_ms > 31536000000ULL;
    const auto until = std::chrono::steady_clock::now() +
                       std::chrono::milliseconds(endless ? 0 : timeout_ms);
    std::unique_lock lock(mutex_);
    ++waiting_;
    const auto done = [&](GC_ERROR code, const char* text) {
        --waiting_;
        if (code != GC_ERR_SUCCESS) fail(code, text);
    };
    while (true) {
        if (closed_) return done(GC_ERR_ABORT, "the event was unregistered");
        if (kills_ > 0) {
            --kills_;
            return done(GC_ERR_ABORT, "EventKill ended the wait");
        }
        if (type_ == EVENT_NEW_BUFFER) {
            EVENT_NEW_BUFFER_DATA data = {};
            if (buffers != nullptr && buffers->take(data)) {
                *size = sizeof data;
                if (buffer != nullptr) std::memcpy(buffer, &data, sizeof data);
                return done(GC_ERR_SUCCESS, "");
            }
            const auto trouble = buffers == nullptr ? GC_ERR_INVALID_HANDLE : buffers->trouble();
            if (trouble != GC_ERR_SUCCESS) return done(trouble, "the device does not answer");
        } else if (!queue_.empty()) {
            Packed data = {queue_.front().id, queue_.front().code, {}};
            std::snprintf(data.text, sizeof data.text, "%s", queue_.front().text.c_str());
            queue_.pop_front();
            *size = sizeof data;
            if (buffer != nullptr) std::memcpy(buffer, &data, sizeof data);
            return done(GC_ERR_SUCCESS, "");
        }
        if (endless) {
            woken_.wait(lock);
        } else if (std::chrono::steady_clock::now() >= until) {
            return done(GC_ERR_TIMEOUT, "no event came in time");
        } else {
            woken_.wait_until(lock, until);
        }
    }
}

void Event::data_info(const void* data, size_t data_size, EVENT_DATA_INFO_CMD cmd,
                      Answer answer) const {
    given(static_cast<const char*>(data), "the event's data");
    if (data_size < this->data_size()) {
        fail(GC_ERR_INVALID_PARAMETER, "these are not the data of an event of this kind");
    }
    if (type_ == EVENT_NEW_BUFFER) {
        EVENT_NEW_BUFFER_DATA buffer;
        std::memcpy(&buffer, data, sizeof buffer);
        if (cmd == EVENT_DATA_ID) return answer.pointer(buffer.BufferHandle);
        if (cmd == EVENT_DATA_VALUE) return answer.pointer(buffer.pUserPointer);
        fail(GC_ERR_NOT_IMPLEMENTED, "no such information about an event");
    }
    Packed packed;
    std::memcpy(&packed, data, sizeof packed);
    packed.text[sizeof packed.text - 1] = '\0';
    if (type_ == EVENT_ERROR) {
        if (cmd == EVENT_DATA_ID) return answer.int32(static_cast<int32_t>(packed.code));
        if (cmd == EVENT_DATA_VALUE) return answer.text(packed.text);
    } else {
        char id[24];
        std::snprintf(id, sizeof id, "%llX", static_cast<unsigned long long>(packed.id));
        if (cmd == EVENT_DATA_ID) return answer.text(id);
        if (cmd == EVENT_DATA_NUMID) return answer.uint64(packed.id);
        if (cmd == EVENT_DATA_VALUE) {
            return answer.bytes(INFO_DATATYPE_BUFFER, packed.text, strlen(packed.text) + 1);
        }
    }
    fail(GC_ERR_NOT_IMPLEMENTED, "no such information about an event");
}

void Event::info(EVENT_INFO_CMD cmd, Answer answer) {
    const auto buffers = buffers_.lock();
    const std::lock_guard lock(mutex_);
    switch (cmd) {
        case EVENT_EVENT_TYPE: return answer.int32(type_);
        case EVENT_NUM_IN_QUEUE:
            return answer.size(buffers != nullptr ? buffers->waiting() : queue_.size());
        case EVENT_NUM_FIRED: return answer.uint64(buffers != nullptr ? buffers->fired() : fired_);
        case EVENT_SIZE_MAX:
        case EVENT_INFO_DATA_SIZE_MAX: return answer.size(data_size());
        default: fail(GC_ERR_NOT_IMPLEMENTED, "no such information about an event");
    }
}

void Event::flush() {
    if (const auto buffers = buffers_.lock()) buffers->discard();
    const std::lock_guard lock(mutex_);
    queue_.clear();
    kills_ = 0;
}

void* EventSource::add(EVENT_TYPE type, std::weak_ptr<BufferQueue> buffers) {
    const std::lock_guard lock(mutex_);
    auto& event = events_[type];
    if (event != nullptr) fail(GC_ERR_RESOURCE_IN_USE, "this event is registered");
    event = std::make_shared<Event>(type, std::move(buffers));
    return enlist(event);
}

void EventSource::remove(EVENT_TYPE type) {
    std::shared_ptr<Event> event;
    {
        const std::lock_guard lock(mutex_);
        const auto found = events_.find(type);
        if (found == events_.end()) fail(GC_ERR_INVALID_PARAMETER, "this event is not registered");
        event = found->second;
        events_.erase(found);
    }
    event->close();
    delist(event->handle);
}

void EventSource::remove_all() {
    std::map<EVENT_TYPE, std::shared_ptr<Event>> events;
    {
        const std::lock_guard lock(mutex_);
        events.swap(events_);
    }
    for (const auto& [type, event] : events) {
        event->close();
        delist(event->handle);
    }
}

std::shared_ptr<Event> EventSource::of(EVENT_TYPE type) {
    const std::lock_guard lock(mutex_);
    const auto found = events_.find(type);
    return found == events_.end() ? nullptr : found->second;
}

void EventSource::fire(EVENT_TYPE type, const EventData& data) {
    if (const auto event = of(type)) event->fire(data);
}

void EventSource::wake(EVENT_TYPE type) {
    if (const auto event = of(type)) event->wake();
}

}  // namespace vcam

using namespace vcam;

GC_ERROR GCRegisterEvent(EVENTSRC_HANDLE source, EVENT_TYPE type, EVENT_HANDLE* event) {
    return guarded([&] { given(event, "the event") = find<Port>(source)->register_event(type); });
}

GC_ERROR GCUnregisterEvent(EVENTSRC_HANDLE source, EVENT_TYPE type) {
    return guarded([&] { find<Port>(source)->events().remove(type); });
}

GC_ERROR EventGetData(EVENT_HANDLE event, void* buffer, size_t* size, uint64_t timeout_ms) {
    return guarded([&] { find<Event>(event)->get(buffer, size, timeout_ms); });
}

GC_ERROR EventGetDataInfo(EVENT_HANDLE event, const void* data, size_t data_size,
                          EVENT_DATA_INFO_CMD cmd, INFO_DATATYPE* type, void* buffer, size_t* size) {
    return guarded([&] {
        find<Event>(event)->data_info(data, data_size, cmd, Answer(type, buffer, size));
    });
}

GC_ERROR EventGetInfo(EVENT_HANDLE event, EVENT_INFO_CMD cmd, INFO_DATATYPE* type, void* buffer,
                      size_t* size) {
    return guarded([&] { find<Event>(event)->info(cmd, Answer(type, buffer, size)); });
}

GC_ERROR EventFlush(EVENT_HANDLE event) {
    return guarded([&] { find<Event>(event)->flush(); });
}

GC_ERROR EventKill(EVENT_HANDLE event) {
    return guarded([&] { find<Event>(event)->kill(); });
}

#include "system.h"

namespace vcam {

PortFacts RemotePort::facts() const {
    const auto& camera = camera_->identity();
    return {camera.id, kVendor, camera.model, camera.tl_type, "Device", true};
}

Device::Device(const Identity& identity, std::unique_ptr<DeviceState> state, void* interface)
    : camera_(std::make_shared<Camera>(identity, std::move(state))), interface_(interface),
      registers_("LocalDevice", "DeviceInformation",
                 {{"DeviceID", identity.id}, {"DeviceVendorName", kVendor},
                  {"DeviceModelName", identity.model}, {"DeviceType", identity.tl_type}}) {}

PortFacts Device::facts() const {
    const auto& camera = camera_->identity();
    return {camera.id, kVendor, camera.model, camera.tl_type, "TLDevice", false};
}

void Device::check_alive() const {
    if (camera_->lost()) fail(GC_ERR_IO, "the device does not answer");
}

void* Device::remote() {
    check_alive();
    const std::lock_guard lock(mutex_);
    if (remote_ == nullptr) {
        remote_ = std::make_shared<RemotePort>(camera_);
        enlist(remote_);
    }
    return remote_->handle;
}

void* Device::open_stream(const std::string& id) {
    check_alive();
    if (id != kStreamId) fail(GC_ERR_INVALID_ID, "no stream has this id");
    const std::lock_guard lock(mutex_);
    if (stream_ != nullptr) fail(GC_ERR_RESOURCE_IN_USE, "the stream is open");
    stream_ = std::make_shared<Stream>(camera_, handle);
    return enlist(stream_);
}

void Device::stream_closed() {
    const std::lock_guard lock(mutex_);
    stream_ = nullptr;
}

void Device::tell(const EventData& data) {
    std::shared_ptr<Stream> stream;
    std::shared_ptr<RemotePort> remote;
    {
        const std::lock_guard lock(mutex_);
        stream = stream_;
        remote = remote_;
    }
    events_.fire(EVENT_MODULE, data);
    events_.fire(EVENT_ERROR, data);
    if (stream == nullptr) return;
    stream->events().fire(EVENT_ERROR, data);
    // Whoever waits for a frame learns at once that none will come.
    stream->events().wake(EVENT_NEW_BUFFER);
}

void Device::close() {
    std::shared_ptr<Stream> stream;
    std::shared_ptr<RemotePort> remote;
    {
        const std::lock_guard lock(mutex_);
        stream.swap(stream_);
        remote.swap(remote_);
    }
    // Without the lock: the acquisition's thread may be on its way into tell().
    camera_->stop();
    if (stream != nullptr) {
        stream->close();
        delist(stream->handle);
    }
    if (remote != nullptr) {
        remote->events().remove_all();
        delist(remote->handle);
    }
    events_.remove_all();
    camera_->release();
    delist(handle);
}

void device_facts(const Identity& identity, int32_t access, DEVICE_INFO_CMD cmd, uint64_t tick_hz,
                  Answer answer) {
    switch (cmd) {
        case DEVICE_INFO_ID: return answer.text(identity.id);
        case DEVICE_INFO_VENDOR: return answer.text(kVendor);
        case DEVICE_INFO_MODEL: return answer.text(identity.model);
        case DEVICE_INFO_TLTYPE: return answer.text(identity.tl_type);
        case DEVICE_INFO_DISPLAYNAME:
            return answer.text(std::string(kVendor) + " " + identity.model + " (" +
                               identity.serial + ")");
        case DEVICE_INFO_ACCESS_STATUS: return answer.int32(access);
        case DEVICE_INFO_USER_DEFINED_NAME: return answer.text(identity.user_id);
        case DEVICE_INFO_SERIAL_NUMBER: return answer.text(identity.serial);
        case DEVICE_INFO_VERSION: return answer.text(kVersion);
        case DEVICE_INFO_TIMESTAMP_FREQUENCY: return answer.uint64(tick_hz);
        default: fail(GC_ERR_NOT_IMPLEMENTED, "no such information about a device");
    }
}

}  // namespace vcam

using namespace vcam;

GC_ERROR DevGetPort(DEV_HANDLE device, PORT_HANDLE* port) {
    return guarded([&] {
        const auto found = find<Device>(device);
        given(port, "the port") = found->remote();
    });
}

GC_ERROR DevGetNumDataStreams(DEV_HANDLE device, uint32_t* count) {
    return guarded([&] {
        find<Device>(device)->check_alive();
        given(count, "the count") = 1;
    });
}

GC_ERROR DevGetDataStreamID(DEV_HANDLE device, uint32_t index, char* id, size_t* size) {
    return guarded([&] {
        find<Device>(device)->check_alive();
        given(size, "the size");
        if (index != 0) fail(GC_ERR_INVALID_INDEX, "a device has one stream");
        hand_text(kStreamId, id, size);
    });
}

GC_ERROR DevOpenDataStream(DEV_HANDLE device, const char* id, DS_HANDLE* stream) {
    return guarded([&] {
        const auto found = find<Device>(device);
        given(id, "the id");
        given(stream, "the stream") = found->open_stream(id);
    });
}

GC_ERROR DevGetInfo(DEV_HANDLE device, DEVICE_INFO_CMD cmd, INFO_DATATYPE* type, void* buffer,
                    size_t* size) {
    return guarded([&] {
        const auto found = find<Device>(device);
        if (!found->camera().keeps_info_when_lost()) found->check_alive();
        device_facts(found->camera().identity(), DEVICE_ACCESS_STATUS_OPEN_READWRITE, cmd,
                     found->camera().tick_hz(), Answer(type, buffer, size));
    });
}

GC_ERROR DevClose(DEV_HANDLE device) {
    return guarded([&] {
        const auto found = find<Device>(device);
        find<Interface>(found->interface())->device_closed(*found);
        found->close();
    });
}

GC_ERROR DevGetParentIF(DEV_HANDLE device, IF_HANDLE* interface) {
    return guarded([&] {
        const auto found = find<Device>(device);
        given(interface, "the interface") = found->interface();
    });
}

#include "system.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>

namespace vcam {
namespace {

constexpr const char* kSystemId = "swath_virtual";
constexpr const char* kInterfaceId = "swath_virtual_0";
constexpr int kDevices = 2, kMostDevices = 64;

struct Producer {
    std::mutex mutex;
    std::shared_ptr<System> system;
    std::string tl_type;
    std::vector<Identity> identities;
};

Producer& producer() {
    static auto* const one = new Producer;
    return *one;
}

std::string environment(const char* name, const std::string& otherwise) {
    const char* const value = std::getenv(name);
    return value == nullptr || *value == '\0' ? otherwise : value;
}

// Read once for each GCInitLib, so that nothing changes under a consumer.
void read_environment() {
    auto& all = producer();
    all.tl_type = environment("SWATH_VIRTUAL_TLTYPE", "U3V");
    const auto asked = std::atoi(environment("SWATH_VIRTUAL_DEVICES",
                                             std::to_string(kDevices)).c_str());
    all.identities.clear();
    for (int i = 0; i < std::clamp(asked, 0, kMostDevices); ++i) {
        char serial[16];
        std::snprintf(serial, sizeof serial, "VC%04d", i + 1);
        const bool infrared = i % 2 == 1;
        all.identities.push_back({i, std::string("swath_") + serial,
                                  infrared ? "VC-17" : "VC-10", serial,
                                  "virtual " + std::to_string(i + 1), all.tl_type,
                                  infrared ? 224 : 448, infrared ? 640 : 1024});
    }
}

std::string path_of_library() {
    Dl_info found = {};
    if (dladdr(reinterpret_cast<void*>(&GCInitLib), &found) == 0) return "";
    return found.dli_fname == nullptr ? "" : found.dli_fname;
}

void system_facts(TL_INFO_CMD cmd, Answer answer) {
    const auto path = path_of_library();
    switch (cmd) {
        case TL_INFO_ID: return answer.text(kSystemId);
        case TL_INFO_VENDOR: return answer.text(kVendor);
        case TL_INFO_MODEL: return answer.text(kSystemModel);
        case TL_INFO_VERSION: return answer.text(kVersion);
        // Of the producer as a whole; its devices say which of the two they are like.
        case TL_INFO_TLTYPE: return answer.text("Mixed");
        case TL_INFO_NAME: return answer.text(path.substr(path.rfind('/') + 1));
        case TL_INFO_PATHNAME: return answer.text(path);
        case TL_INFO_DISPLAYNAME: return answer.text(kSystemModel);
        case TL_INFO_CHAR_ENCODING: return answer.int32(TL_CHAR_ENCODING_UTF8);
        case TL_INFO_GENTL_VER_MAJOR: return answer.uint32(1);
        case TL_INFO_GENTL_VER_MINOR: return answer.uint32(5);
        default: fail(GC_ERR_NOT_IMPLEMENTED, "no such information about the system");
    }
}

void interface_facts(INTERFACE_INFO_CMD cmd, Answer answer) {
    switch (cmd) {
        case INTERFACE_INFO_ID: return answer.text(kInterfaceId);
        case INTERFACE_INFO_DISPLAYNAME: return answer.text("swath virtual interface");
        case INTERFACE_INFO_TLTYPE: return answer.text(tl_type());
        default: fail(GC_ERR_NOT_IMPLEMENTED, "no such information about an interface");
    }
}

void check_interface(const char* id) {
    if (given(id, "the id") == '\0' || std::string(id) != kInterfaceId) {
        fail(GC_ERR_INVALID_ID, "no interface has this id");
    }
}

}  // namespace

const std::string& tl_type() { return producer().tl_type; }
const std::vector<Identity>& identities() { return producer().identities; }

System::System() : registers_("System", "SystemInformation",
                              {{"TLID", kSystemId}, {"TLVendorName", kVendor},
                               {"TLModelName", kSystemModel}, {"TLVersion", kVersion}}) {}

PortFacts System::facts() const {
    return {kSystemId, kVendor, kSystemModel, "Mixed", "TLSystem", false};
}

void* System::open_interface(const std::string& id) {
    check_interface(id.c_str());
    const std::lock_guard lock(mutex_);
    if (interface_ != nullptr) fail(GC_ERR_RESOURCE_IN_USE, "the interface is open");
    interface_ = std::make_shared<Interface>(handle);
    return enlist(interface_);
}

void System::interface_closed() {
    const std::lock_guard lock(mutex_);
    interface_ = nullptr;
}

void System::close() {
    std::shared_ptr<Interface> interface;
    {
        const std::lock_guard lock(mutex_);
        interface.swap(interface_);
    }
    if (interface != nullptr) interface->close();
    events_.remove_all();
    delist(handle);
}

Interface::Interface(void* system)
    : system_(system), registers_("Interface", "InterfaceInformation",
                                  {{"InterfaceID", kInterfaceId}, {"InterfaceType", tl_type()}}) {}

PortFacts Interface::facts() const {
    return {kInterfaceId, kVendor, "swath virtual interface", tl_type(), "TLInterface", false};
}

// A device that is open here stays in the list, so that its consumer can still ask about it.
bool Interface::update() {
    std::vector<int> present;
    for (const auto& identity : identities()) {
        if (!DeviceState(identity.serial).absent()) present.push_back(identity.index);
    }
    const std::lock_guard lock(mutex_);
    const bool changed = present != present_;
    present_.swap(present);
    return changed;
}

uint32_t Interface::device_count() {
    const std::lock_guard lock(mutex_);
    return static_cast<uint32_t>(present_.size());
}

std::string Interface::device_id(uint32_t index) {
    const std::lock_guard lock(mutex_);
    if (index >= present_.size()) fail(GC_ERR_INVALID_INDEX, "there are not so many devices");
    return identities()[static_cast<size_t>(present_[index])].id;
}

const Identity& Interface::listed(const std::string& id) {
    const std::lock_guard lock(mutex_);
    for (const auto& identity : identities()) {
        const bool present = std::find(present_.begin(), present_.end(), identity.index) !=
                             present_.end();
        if (present && identity.id == id) return identity;
    }
    fail(GC_ERR_INVALID_ID, "no device has this id");
}

std::shared_ptr<Device> Interface::opened(const std::string& id) {
    const std::lock_guard lock(mutex_);
    for (const auto& device : open_) {
        if (device->camera().identity().id == id) return device;
    }
    return nullptr;
}

void Interface::device_info(const std::string& id, DEVICE_INFO_CMD cmd, Answer answer) {
    const auto& identity = listed(id);
    int32_t access = DEVICE_ACCESS_STATUS_UNKNOWN;
    if (cmd == DEVICE_INFO_ACCESS_STATUS) {
        if (opened(id) != nullptr) access = DEVICE_ACCESS_STATUS_OPEN_READWRITE;
        else if (DeviceState(identity.serial).locked_elsewhere()) {
            access = DEVICE_ACCESS_STATUS_NOACCESS;
        } else {
            access = DEVICE_ACCESS_STATUS_READWRITE;
        }
    }
    uint64_t tick_hz = 0;
    if (const auto device = opened(id)) tick_hz = device->camera().tick_hz();
    if (cmd == DEVICE_INFO_TIMESTAMP_FREQUENCY && tick_hz == 0) {
        fail(GC_ERR_NOT_AVAILABLE, "a device says its tick frequency when it is open");
    }
    device_facts(identity, access, cmd, tick_hz, answer);
}

void* Interface::open_device(const std::string& id, DEVICE_ACCESS_FLAGS flags) {
    const auto& identity = listed(id);
    if (flags != DEVICE_ACCESS_CONTROL && flags != DEVICE_ACCESS_EXCLUSIVE) {
        if (flags < DEVICE_ACCESS_NONE || flags > DEVICE_ACCESS_EXCLUSIVE) {
            fail(GC_ERR_INVALID_PARAMETER, "no such way to open a device");
        }
        fail(GC_ERR_NOT_IMPLEMENTED, "a device can be opened for control only");
    }
    if (opened(id) != nullptr) fail(GC_ERR_RESOURCE_IN_USE, "the device is open");
    auto state = std::make_unique<DeviceState>(identity.serial);
    if (state->absent()) fail(GC_ERR_NOT_AVAILABLE, "the device is unplugged");
    if (!state->lock()) {
        fail(GC_ERR_ACCESS_DENIED, "device " + identity.serial + " is open in another process");
    }
    auto device = std::make_shared<Device>(identity, std::move(state), handle);
    device->camera().on_lost([device = std::weak_ptr(device), here = weak_from_this()] {
        const EventData lost = {kEventDeviceLost, GC_ERR_IO, "device lost"};
        if (const auto one = device.lock()) one->tell(lost);
        if (const auto one = here.lock()) one->events().fire(EVENT_MODULE, lost);
    });
    const std::lock_guard lock(mutex_);
    open_.push_back(device);
    return enlist(device);
}

void Interface::device_closed(const Device& device) {
    const std::lock_guard lock(mutex_);
    open_.erase(std::remove_if(open_.begin(), open_.end(),
                               [&](const auto& one) { return one.get() == &device; }),
                open_.end());
}

void Interface::close() {
    std::vector<std::shared_ptr<Device>> open;
    {
        const std::lock_guard lock(mutex_);
        open.swap(open_);
    }
    for (const auto& device : open) device->close();
    events_.remove_all();
    delist(handle);
}

}  // namespace vcam

using namespace vcam;

GC_ERROR GCGetInfo(TL_INFO_CMD cmd, INFO_DATATYPE* type, void* buffer, size_t* size) {
    return unchecked([&] { system_facts(cmd, Answer(type, buffer, size)); });
}

GC_ERROR GCInitLib() {
    return unchecked([&] {
        const std::lock_guard lock(producer().mutex);
        if (is_initialised()) fail(GC_ERR_RESOURCE_IN_USE, "GCInitLib was called before");
        read_environment();
        set_initialised(true);
    });
}

GC_ERROR GCCloseLib() {
    return guarded([&] {
        std::shared_ptr<System> system;
        {
            const std::lock_guard lock(producer().mutex);
            system.swap(producer().system);
            set_initialised(false);
        }
        if (system != nullptr) system->close();
    });
}

GC_ERROR TLOpen(TL_HANDLE* system) {
    return guarded([&] {
        given(system, "the system");
        const std::lock_guard lock(producer().mutex);
        if (producer().system != nullptr) fail(GC_ERR_RESOURCE_IN_USE, "the system is open");
        producer().system = std::make_shared<System>();
        *system = enlist(producer().system);
    });
}

GC_ERROR TLClose(TL_HANDLE system) {
    return guarded([&] {
        const auto found = find<System>(system);
        {
            const std::lock_guard lock(producer().mutex);
            producer().system = nullptr;
        }
        found->close();
    });
}

GC_ERROR TLGetInfo(TL_HANDLE system, TL_INFO_CMD cmd, INFO_DATATYPE* type, void* buffer,
                   size_t* size) {
    return guarded([&] {
        find<System>(system);
        system_facts(cmd, Answer(type, buffer, size));
    });
}

GC_ERROR TLGetNumInterfaces(TL_HANDLE system, uint32_t* count) {
    return guarded([&] {
        find<System>(system);
        given(count, "the count") = 1;
    });
}

GC_ERROR TLGetInterfaceID(TL_HANDLE system, uint32_t index, char* id, size_t* size) {
    return guarded([&] {
        find<System>(system);
        given(size, "the size");
        if (index != 0) fail(GC_ERR_INVALID_INDEX, "there is one interface");
        hand_text(kInterfaceId, id, size);
    });
}

GC_ERROR TLGetInterfaceInfo(TL_HANDLE system, const char* id, INTERFACE_INFO_CMD cmd,
                            INFO_DATATYPE* type, void* buffer, size_t* size) {
    return guarded([&] {
        find<System>(system);
        check_interface(id);
        interface_facts(cmd, Answer(type, buffer, size));
    });
}

GC_ERROR TLOpenInterface(TL_HANDLE system, const char* id, IF_HANDLE* interface) {
    return guarded([&] {
        const auto found = find<System>(system);
        check_interface(id);
        given(interface, "the interface") = found->open_interface(id);
    });
}

GC_ERROR TLUpdateInterfaceList(TL_HANDLE system, bool8_t* changed, uint64_t) {
    return guarded([&] {
        find<System>(system);
        if (changed != nullptr) *changed = 0;
    });
}

GC_ERROR IFClose(IF_HANDLE interface) {
    return guarded([&] {
        const auto found = find<Interface>(interface);
        find<System>(found->system())->interface_closed();
        found->close();
    });
}

GC_ERROR IFGetInfo(IF_HANDLE interface, INTERFACE_INFO_CMD cmd, INFO_DATATYPE* type, void* buffer,
                   size_t* size) {
    return guarded([&] {
        find<Interface>(interface);
        interface_facts(cmd, Answer(type, buffer, size));
    });
}

GC_ERROR IFGetNumDevices(IF_HANDLE interface, uint32_t* count) {
    return guarded([&] {
        const auto found = find<Interface>(interface);
        given(count, "the count") = found->device_count();
    });
}

GC_ERROR IFGetDeviceID(IF_HANDLE interface, uint32_t index, char* id, size_t* size) {
    return guarded([&] { hand_text(find<Interface>(interface)->device_id(index), id, size); });
}

GC_ERROR IFUpdateDeviceList(IF_HANDLE interface, bool8_t* changed, uint64_t) {
    return guarded([&] {
        const bool new_list = find<Interface>(interface)->update();
        if (changed != nullptr) *changed = new_list ? 1 : 0;
    });
}

GC_ERROR IFGetDeviceInfo(IF_HANDLE interface, const char* id, DEVICE_INFO_CMD cmd,
                         INFO_DATATYPE* type, void* buffer, size_t* size) {
    return guarded([&] {
        const auto found = find<Interface>(interface);
        given(id, "the id");
        found->device_info(id, cmd, Answer(type, buffer, size));
    });
}

GC_ERROR IFOpenDevice(IF_HANDLE interface, const char* id, DEVICE_ACCESS_FLAGS flags,
                      DEV_HANDLE* device) {
    return guarded([&] {
        const auto found = find<Interface>(interface);
        given(id, "the id");
        given(device, "the device") = found->open_device(id, flags);
    });
}

GC_ERROR IFGetParentTL(IF_HANDLE interface, TL_HANDLE* system) {
    return guarded([&] {
        const auto found = find<Interface>(interface);
        given(system, "the system") = found->system();
    });
}

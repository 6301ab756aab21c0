// System, interface and device: the tree that leads to a camera.
//
// One system, one interface, and as many devices as SWATH_VIRTUAL_DEVICES says (2 by default).
#pragma once

#include "stream.h"

namespace vcam {

const std::string& tl_type();
const std::vector<Identity>& identities();

class Device;

// The registers of the camera itself.
class RemotePort : public Port {
public:
    explicit RemotePort(std::shared_ptr<Camera> camera) : camera_(std::move(camera)) {}
    PortFacts facts() const override;
    Registers& registers() override { return *camera_; }

protected:
    bool has_event(EVENT_TYPE type) const override { return type == EVENT_REMOTE_DEVICE; }

private:
    const std::shared_ptr<Camera> camera_;
};

class Device : public Port {
public:
    Device(const Identity& identity, std::unique_ptr<DeviceState> state, void* interface);
    PortFacts facts() const override;
    Registers& registers() override { return registers_; }

    void* remote();
    void* open_stream(const std::string& id);
    void check_alive() const;
    void stream_closed();
    void tell(const EventData& data);  // the device is lost
    void close();
    Camera& camera() { return *camera_; }
    void* interface() const { return interface_; }

protected:
    // Events of the remote device are registered here by some consumers.
    bool has_event(EVENT_TYPE type) const override { return type == EVENT_REMOTE_DEVICE; }

private:
    const std::shared_ptr<Camera> camera_;
    void* const interface_;
    PlainRegisters registers_;
    std::mutex mutex_;
    std::shared_ptr<RemotePort> remote_ = {};
    std::shared_ptr<Stream> stream_ = {};
};

class Interface : public Port, public std::enable_shared_from_this<Interface> {
public:
    explicit Interface(void* system);
    PortFacts facts() const override;
    Registers& registers() override { return registers_; }

    bool update();
    uint32_t device_count();
    std::string device_id(uint32_t index);
    void device_info(const std::string& id, DEVICE_INFO_CMD cmd, Answer answer);
    void* open_device(const std::string& id, DEVICE_ACCESS_FLAGS flags);
    void device_closed(const Device& device);
    void close();
    void* system() const { return system_; }

private:
    const Identity& listed(const std::string& id);
    std::shared_ptr<Device> opened(const std::string& id);

    void* const system_;
    PlainRegisters registers_;
    std::mutex mutex_;
    std::vector<int> present_ = {};
    std::vector<std::shared_ptr<Device>> open_ = {};
};

class System : public Port {
public:
    System();
    PortFacts facts() const override;
    Registers& registers() override { return registers_; }
    void* open_interface(const std::string& id);
    void interface_closed();
    void close();

private:
    PlainRegisters registers_;
    std::mutex mutex_;
    std::shared_ptr<Interface> interface_ = {};
};

void device_facts(const Identity& identity, int32_t access, DEVICE_INFO_CMD cmd, uint64_t tick_hz,
                  Answer answer);

}  // namespace vcam

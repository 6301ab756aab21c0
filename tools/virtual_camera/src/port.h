// A module with registers and a description of them: every GenTL module, and the remote device.
#pragma once

#include "events.h"
#include "registers.h"

namespace vcam {

struct PortFacts {
    std::string id, vendor, model, tl_type;
    const char* module;  // TLSystem, TLInterface, TLDevice, TLDataStream, Device
    bool writable;
};

class Port : public Handled {
public:
    virtual PortFacts facts() const = 0;
    virtual Registers& registers() = 0;
    virtual void* register_event(EVENT_TYPE type);
    EventSource& events() { return events_; }
    std::string url();

protected:
    // Which events this module has, besides EVENT_MODULE and EVENT_ERROR.
    virtual bool has_event(EVENT_TYPE) const { return false; }

    EventSource events_ = {};
};

// The registers of a module that only says what it is.
class PlainRegisters : public Registers {
public:
    PlainRegisters(const std::string& model, const std::string& category,
                   const std::vector<std::pair<std::string, std::string>>& texts);
};

}  // namespace vcam

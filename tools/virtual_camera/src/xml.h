// Writes the GenICam description (schema version 1.1) of a table of features.
#pragma once

#include "registers.h"

namespace vcam {

class XmlWriter {
public:
    explicit XmlWriter(const Registers& registers) : registers_(registers) {}
    std::string write();

private:
    void categories();
    void feature(int index);
    void reg(int index, const std::string& name, uint64_t offset, Kind kind, const char* access);
    void line(const std::string& text) { out_ += text + "\n"; }

    const Registers& registers_;
    std::string out_ = {};
};

}  // namespace vcam

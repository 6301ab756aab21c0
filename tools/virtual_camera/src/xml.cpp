#include "xml.h"

#include <algorithm>
#include <cstdio>

namespace vcam {
namespace {

std::string hex(uint64_t value) {
    char text[24];
    std::snprintf(text, sizeof text, "0x%llX", static_cast<unsigned long long>(value));
    return text;
}

std::string number(double value) {
    char text[40];
    std::snprintf(text, sizeof text, "%.17g", value);
    return text;
}

std::string tag(const std::string& name, const std::string& inside) {
    return "<" + name + ">" + inside + "</" + name + ">";
}

std::string escaped(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (c == '&') out += "&amp;";
        else if (c == '<') out += "&lt;";
        else out += c;
    }
    return out;
}

const char* node_kind(Kind kind) {
    switch (kind) {
        case Kind::integer: return "Integer";
        case Kind::real: return "Float";
        case Kind::boolean: return "Boolean";
        case Kind::enumeration: return "Enumeration";
        case Kind::command: return "Command";
        case Kind::text: break;
    }
    return "StringReg";
}

}  // namespace

std::string XmlWriter::write() {
    line("<?xml version=\"1.0\" encoding=\"utf-8\"?>");
    line("<RegisterDescription ModelName=\"" + registers_.model_ + "\" VendorName=\"" + kVendor +
         "\" ToolTip=\"Made from the producer's table of features\" StandardNameSpace=\"None\"");
    line(" SchemaMajorVersion=\"1\" SchemaMinorVersion=\"1\" SchemaSubMinorVersion=\"0\"");
    line(" MajorVersion=\"1\" MinorVersion=\"0\" SubMinorVersion=\"0\"");
    line(" ProductGuid=\"8d7ac6d4-0c5e-4c53-a2a8-6f5f0c1d7e01\"");
    line(" VersionGuid=\"1f0b7b4e-3f8e-4b1d-9d7b-4e9f2f0f9a01\"");
    line(" xmlns=\"http://www.genicam.org/GenApi/Version_1_1\"");
    line(" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"");
    line(" xsi:schemaLocation=\"http://www.genicam.org/GenApi/Version_1_1"
         " http://www.genicam.org/GenApi/GenApiSchema_Version_1_1.xsd\">");
    categories();
    for (int i = 0; i < registers_.count(); ++i) feature(i);
    out_ += registers_.extra_xml();
    line("<Port Name=\"Device\"/>");
    line("</RegisterDescription>");
    return out_;
}

void XmlWriter::categories() {
    std::vector<std::string> names;
    for (const auto& feature : registers_.features_) {
        if (std::find(names.begin(), names.end(), feature.category) == names.end()) {
            names.push_back(feature.category);
        }
    }
    line("<Category Name=\"Root\" NameSpace=\"Standard\">");
    for (const auto& name : names) line(tag("pFeature", name));
    line("</Category>");
    for (const auto& name : names) {
        line("<Category Name=\"" + name + "\" NameSpace=\"Standard\">");
        for (const auto& feature : registers_.features_) {
            if (feature.category == name) line(tag("pFeature", feature.name));
        }
        for (const auto& extra : registers_.extra_features(name)) line(tag("pFeature", extra));
        line("</Category>");
    }
}

void XmlWriter::reg(int index, const std::string& name, uint64_t offset, Kind kind,
                    const char* access) {
    const bool real = kind == Kind::real;
    const std::string node = real ? "FloatReg" : "IntReg";
    line("<" + node + " Name=\"" + name + "\">");
    const auto page = Registers::kFirstPage + static_cast<uint64_t>(index) * Registers::kPage;
    line(tag("Address", hex(page + offset)) + tag("Length", "8") + tag("AccessMode", access) +
         tag("pPort", "Device") + tag("Cachable", "NoCache") +
         (real ? "" : tag("Sign", "Signed")) + tag("Endianess", "LittleEndian"));
    line("</" + node + ">");
}

void XmlWriter::feature(int index) {
    const auto& what = registers_.feature(index);
    const std::string& name = what.name;
    const std::string node = node_kind(what.kind);
    const bool text = what.kind == Kind::text;
    const bool numeric = what.kind == Kind::integer || what.kind == Kind::real;
    const bool lockable = what.tl_locked || what.guarded;
    const char* const access = what.read_only ? "RO" : "RW";
    line("<" + node + " Name=\"" + name + "\" NameSpace=\"Standard\">");
    if (!what.about.empty()) line(tag("ToolTip", escaped(what.about)));
    line(tag("Visibility", "Beginner"));
    if (what.conditional) line(tag("pIsAvailable", name + "_Available"));
    if (lockable) line(tag("pIsLocked", name + "_Locked"));
    for (const auto& entry : what.entries) {
        line("<EnumEntry Name=\"" + entry.name + "\" NameSpace=\"Standard\">");
        if (what.choosy) line(tag("pIsAvailable", name + "_Has_" + entry.name));
        line(tag("Value", std::to_string(entry.value)) + "</EnumEntry>");
    }
    if (text) {
        const auto page = Registers::kFirstPage + static_cast<uint64_t>(index) * Registers::kPage;
        line(tag("Address", hex(page)) + tag("Length", std::to_string(Registers::kText)) +
             tag("AccessMode", access) + tag("pPort", "Device") + tag("Cachable", "NoCache"));
    } else {
        line(tag("pValue", name + "_Reg"));
    }
    if (what.kind == Kind::command) line(tag("CommandValue", "1"));
    if (what.kind == Kind::boolean) line(tag("OnValue", "1") + tag("OffValue", "0"));
    if (numeric && what.moving) {
        line(tag("pMin", name + "_Min") + tag("pMax", name + "_Max"));
        if (what.kind == Kind::integer) line(tag("pInc", name + "_Inc"));
    } else if (numeric && !what.read_only) {
        const auto shown = [&](double value) {
            return what.kind == Kind::real ? number(value)
                                           : std::to_string(static_cast<int64_t>(value));
        };
        line(tag("Min", shown(what.limits.low)) + tag("Max", shown(what.limits.high)));
        if (what.kind == Kind::integer) line(tag("Inc", shown(what.limits.step)));
    }
    if (numeric && !what.unit.empty()) line(tag("Unit", what.unit));
    for (int i = 0; i < registers_.count(); ++i) {
        if (registers_.feature(i).selector == index) {
            line(tag("pSelected", registers_.feature(i).name));
        }
    }
    line("</" + node + ">");
    if (!text) {
        reg(index, name + "_Reg", 0, what.kind, what.kind == Kind::command ? "WO" : access);
    }
    if (numeric && what.moving) {
        reg(index, name + "_Min", Registers::kLow, what.kind, "RO");
        reg(index, name + "_Max", Registers::kHigh, what.kind, "RO");
        if (what.kind == Kind::integer) reg(index, name + "_Inc", Registers::kStep, what.kind, "RO");
    }
    if (what.conditional) {
        reg(index, name + "_Available", Registers::kAvailable, Kind::integer, "RO");
    }
    if (lockable) reg(index, name + "_Locked", Registers::kLocked, Kind::integer, "RO");
    for (size_t i = 0; what.choosy && i < what.entries.size(); ++i) {
        reg(index, name + "_Has_" + what.entries[i].name, Registers::kEntries + 8 * i,
            Kind::integer, "RO");
    }
}

}  // namespace vcam

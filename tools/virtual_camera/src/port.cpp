#include "port.h"

#include <cstdio>

namespace vcam {
namespace {

constexpr int32_t kSchemaMajor = 1, kSchemaMinor = 1;

std::string file_name(Port& port) { return std::string("swath_") + port.facts().module + ".xml"; }

}  // namespace

void* Port::register_event(EVENT_TYPE type) {
    const bool known = type >= EVENT_ERROR && type <= EVENT_MODULE;
    if (!known) fail(GC_ERR_INVALID_PARAMETER, "no such kind of event");
    if (type != EVENT_MODULE && type != EVENT_ERROR && !has_event(type)) {
        fail(GC_ERR_NOT_IMPLEMENTED, "this module has no such events");
    }
    return events_.add(type);
}

std::string Port::url() {
    char place[64];
    std::snprintf(place, sizeof place, ";%llX;%zX?SchemaVersion=%d.%d.0",
                  static_cast<unsigned long long>(Registers::kXmlAddress),
                  registers().xml().size(), kSchemaMajor, kSchemaMinor);
    return "local:" + file_name(*this) + place;
}

PlainRegisters::PlainRegisters(const std::string& model, const std::string& category,
                               const std::vector<std::pair<std::string, std::string>>& texts)
    : Registers(model) {
    for (const auto& [name, value] : texts) {
        Feature feature;
        feature.name = name;
        feature.category = category;
        feature.kind = Kind::text;
        feature.read_only = true;
        feature.initial.text = value;
        add(std::move(feature));
    }
}

}  // namespace vcam

using namespace vcam;

GC_ERROR GCReadPort(PORT_HANDLE port, uint64_t address, void* buffer, size_t* size) {
    return guarded([&] {
        const auto found = find<Port>(port);
        given(static_cast<char*>(buffer), "the buffer");
        found->registers().read(address, buffer, given(size, "the size"));
    });
}

GC_ERROR GCWritePort(PORT_HANDLE port, uint64_t address, const void* buffer, size_t* size) {
    return guarded([&] {
        const auto found = find<Port>(port);
        given(static_cast<const char*>(buffer), "the buffer");
        found->registers().write(address, buffer, given(size, "the size"));
    });
}

GC_ERROR GCReadPortStacked(PORT_HANDLE port, PORT_REGISTER_STACK_ENTRY* entries, size_t* count) {
    return guarded([&] {
        const auto found = find<Port>(port);
        given(entries, "the list");
        const size_t asked = given(count, "the count");
        for (*count = 0; *count < asked; ++*count) {
            const auto& entry = entries[*count];
            given(static_cast<char*>(entry.pBuffer), "a buffer");
            found->registers().read(entry.Address, entry.pBuffer, entry.Size);
        }
    });
}

GC_ERROR GCWritePortStacked(PORT_HANDLE port, PORT_REGISTER_STACK_ENTRY* entries, size_t* count) {
    return guarded([&] {
        const auto found = find<Port>(port);
        given(entries, "the list");
        const size_t asked = given(count, "the count");
        for (*count = 0; *count < asked; ++*count) {
            const auto& entry = entries[*count];
            given(static_cast<char*>(entry.pBuffer), "a buffer");
            found->registers().write(entry.Address, entry.pBuffer, entry.Size);
        }
    });
}

GC_ERROR GCGetPortURL(PORT_HANDLE port, char* url, size_t* size) {
    return guarded([&] { hand_text(find<Port>(port)->url(), url, size); });
}

GC_ERROR GCGetNumPortURLs(PORT_HANDLE port, uint32_t* count) {
    return guarded([&] {
        find<Port>(port);
        given(count, "the count") = 1;
    });
}

GC_ERROR GCGetPortURLInfo(PORT_HANDLE port, uint32_t index, URL_INFO_CMD cmd, INFO_DATATYPE* type,
                          void* buffer, size_t* size) {
    return guarded([&] {
        const auto found = find<Port>(port);
        Answer answer(type, buffer, size);
        if (index != 0) fail(GC_ERR_INVALID_INDEX, "a port has one URL");
        switch (cmd) {
            case URL_INFO_URL: return answer.text(found->url());
            case URL_INFO_SCHEMA_VER_MAJOR: return answer.int32(kSchemaMajor);
            case URL_INFO_SCHEMA_VER_MINOR: return answer.int32(kSchemaMinor);
            case URL_INFO_FILE_VER_MAJOR: return answer.int32(1);
            case URL_INFO_FILE_VER_MINOR:
            case URL_INFO_FILE_VER_SUBMINOR: return answer.int32(0);
            case URL_INFO_FILE_REGISTER_ADDRESS: return answer.uint64(Registers::kXmlAddress);
            case URL_INFO_FILE_SIZE: return answer.uint64(found->registers().xml().size());
            case URL_INFO_SCHEME: return answer.int32(URL_SCHEME_LOCAL);
            case URL_INFO_FILENAME: return answer.text(file_name(*found));
            case URL_INFO_FILE_SHA1_HASH: fail(GC_ERR_NOT_AVAILABLE, "the file has no hash");
            default: fail(GC_ERR_NOT_IMPLEMENTED, "no such information about a URL");
        }
    });
}

GC_ERROR GCGetPortInfo(PORT_HANDLE port, PORT_INFO_CMD cmd, INFO_DATATYPE* type, void* buffer,
                       size_t* size) {
    return guarded([&] {
        const auto facts = find<Port>(port)->facts();
        Answer answer(type, buffer, size);
        switch (cmd) {
            case PORT_INFO_ID: return answer.text(facts.id);
            case PORT_INFO_VENDOR: return answer.text(facts.vendor);
            case PORT_INFO_MODEL: return answer.text(facts.model);
            case PORT_INFO_TLTYPE: return answer.text(facts.tl_type);
            case PORT_INFO_MODULE: return answer.text(facts.module);
            case PORT_INFO_LITTLE_ENDIAN: return answer.boolean(true);
            case PORT_INFO_BIG_ENDIAN: return answer.boolean(false);
            case PORT_INFO_ACCESS_READ: return answer.boolean(true);
            case PORT_INFO_ACCESS_WRITE: return answer.boolean(facts.writable);
            case PORT_INFO_ACCESS_NA:
            case PORT_INFO_ACCESS_NI: return answer.boolean(false);
            case PORT_INFO_VERSION: return answer.text(kVersion);
            case PORT_INFO_PORTNAME: return answer.text("Device");
            default: fail(GC_ERR_NOT_IMPLEMENTED, "no such information about a port");
        }
    });
}

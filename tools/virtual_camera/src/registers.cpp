#include "registers.h"

#include <cmath>
#include <cstdlib>

#include "xml.h"

namespace vcam {
namespace {

template <class T>
std::string bytes_of(T value) {
    return {reinterpret_cast<const char*>(&value), sizeof value};
}

bool is_text(const Feature& feature) { return feature.kind == Kind::text; }

}  // namespace

int Registers::add(Feature feature) {
    const auto choices = feature.selector < 0 ? 1 : this->feature(feature.selector).entries.size();
    values_.emplace_back(choices, feature.initial);
    features_.push_back(std::move(feature));
    return count() - 1;
}

int Registers::index_of(const std::string& name) const {
    for (int i = 0; i < count(); ++i) {
        if (feature(i).name == name) return i;
    }
    fail(GC_ERR_INVALID_ID, name + ": no such feature");
}

size_t Registers::entry_index(int index, int64_t value) const {
    const auto& entries = feature(index).entries;
    for (size_t i = 0; i < entries.size(); ++i) {
        if (entries[i].value == value) return i;
    }
    fail(GC_ERR_INVALID_VALUE, feature(index).name + ": " + std::to_string(value) +
                                   " is not one of its values");
}

Value& Registers::stored(int index) {
    const int selector = feature(index).selector;
    return stored(index, selector < 0 ? -1 : stored(selector).integer);
}

Value& Registers::stored(int index, int64_t selected) {
    auto& values = values_[static_cast<size_t>(index)];
    const int selector = feature(index).selector;
    return selector < 0 ? values[0] : values[entry_index(selector, selected)];
}

void Registers::reset_stored(int index) {
    for (auto& value : values_[static_cast<size_t>(index)]) value = feature(index).initial;
}

const std::string& Registers::xml() {
    const std::lock_guard lock(mutex_);
    if (xml_.empty()) xml_ = XmlWriter(*this).write();
    return xml_;
}

void Registers::change(int index, const Value& value) {
    const auto& what = feature(index);
    if (what.read_only) fail(GC_ERR_ACCESS_DENIED, what.name + " is read only");
    if (what.conditional && !available(index)) {
        fail(GC_ERR_NOT_AVAILABLE, what.name + " is not available now");
    }
    if (locked(index)) fail(GC_ERR_ACCESS_DENIED, what.name + " is locked now");
    const auto range = limits(index);
    const auto number = what.kind == Kind::real ? value.real : static_cast<double>(value.integer);
    if (what.kind == Kind::integer || what.kind == Kind::real) {
        const auto steps = (number - range.low) / (what.kind == Kind::real ? 1.0 : range.step);
        const bool off_step = what.kind == Kind::integer && steps != std::floor(steps);
        // Written so that a NaN is refused, too.
        if (!(number >= range.low && number <= range.high) || off_step) {
            fail(GC_ERR_INVALID_VALUE, what.name + ": found " + std::to_string(number) +
                                           ", allowed are " + std::to_string(range.low) + " to " +
                                           std::to_string(range.high) + " in steps of " +
                                           std::to_string(range.step));
        }
    } else if (what.kind == Kind::enumeration) {
        entry_index(index, value.integer);
        if (what.choosy && !entry_available(index, value.integer)) {
            fail(GC_ERR_NOT_AVAILABLE, what.name + ": this value is not available now");
        }
    }
    set(index, value);
}

std::string Registers::page(int index, uint64_t& offset, size_t size) {
    const auto& what = feature(index);
    const auto limit = [&](double Limits::*member) {
        const double value = limits(index).*member;
        return what.kind == Kind::real ? bytes_of(value) : bytes_of(static_cast<int64_t>(value));
    };
    if (offset < kLow) {
        if (what.conditional && !available(index)) {
            fail(GC_ERR_NOT_AVAILABLE, what.name + " is not available now");
        }
        const auto value = get(index);
        if (is_text(what)) {
            auto text = value.text;
            text.resize(kText);
            return text;
        }
        return what.kind == Kind::real ? bytes_of(value.real) : bytes_of(value.integer);
    }
    const auto start = offset - offset % 8;
    offset %= 8;
    if (size > 8) fail(GC_ERR_INVALID_ADDRESS, "registers are read one by one");
    switch (start) {
        case kLow: return limit(&Limits::low);
        case kHigh: return limit(&Limits::high);
        case kStep: return limit(&Limits::step);
        case kAvailable: return bytes_of(int64_t{available(index)});
        case kLocked: return bytes_of(int64_t{locked(index)});
        default: break;
    }
    const auto entry = (start - kEntries) / 8;
    if (entry >= what.entries.size()) fail(GC_ERR_INVALID_ADDRESS, "no register is here");
    return bytes_of(int64_t{entry_available(index, what.entries[entry].value)});
}

void Registers::read(uint64_t address, void* out, size_t size) {
    const std::lock_guard lock(mutex_);
    std::string from;
    uint64_t offset = 0;
    if (address >= kXmlAddress) {
        from = xml();
        offset = address - kXmlAddress;
    } else {
        before_access();
        if (address < kFirstPage) fail(GC_ERR_INVALID_ADDRESS, "no register is here");
        const auto index = (address - kFirstPage) / kPage;
        if (index >= features_.size()) fail(GC_ERR_INVALID_ADDRESS, "no register is here");
        offset = (address - kFirstPage) % kPage;
        from = page(static_cast<int>(index), offset, size);
    }
    if (offset > from.size() || size > from.size() - offset) {
        fail(GC_ERR_INVALID_ADDRESS, "the read goes beyond its register");
    }
    std::memcpy(out, from.data() + offset, size);
}

void Registers::write(uint64_t address, const void* in, size_t size) {
    const std::lock_guard lock(mutex_);
    before_access();
    if (address < kFirstPage || (address - kFirstPage) % kPage != 0) {
        fail(GC_ERR_INVALID_ADDRESS, "no register that can be written is here");
    }
    const auto index = (address - kFirstPage) / kPage;
    if (index >= features_.size()) fail(GC_ERR_INVALID_ADDRESS, "no register is here");
    const auto& what = features_[index];
    Value value;
    if (is_text(what)) {
        if (size > kText) fail(GC_ERR_INVALID_ADDRESS, "the write goes beyond its register");
        const auto* const text = static_cast<const char*>(in);
        value.text.assign(text, strnlen(text, size));
    } else if (size != 8) {
        fail(GC_ERR_INVALID_ADDRESS, "the register " + what.name + " has 8 bytes");
    } else if (what.kind == Kind::real) {
        std::memcpy(&value.real, in, 8);
    } else {
        std::memcpy(&value.integer, in, 8);
        if (what.kind == Kind::boolean) value.integer = value.integer != 0;
    }
    change(static_cast<int>(index), value);
}

void Registers::set_by_name(const std::string& name, const std::string& text) {
    const std::lock_guard lock(mutex_);
    const int index = index_of(name);
    const auto& what = feature(index);
    Value value;
    char* end = nullptr;
    switch (what.kind) {
        case Kind::text: value.text = text; break;
        case Kind::real: value.real = std::strtod(text.c_str(), &end); break;
        case Kind::boolean:
            if (text == "true" || text == "false") {
                value.integer = text == "true";
                break;
            }
            [[fallthrough]];
        case Kind::integer:
        case Kind::command: value.integer = std::strtoll(text.c_str(), &end, 0); break;
        case Kind::enumeration: {
            bool found = false;
            for (const auto& entry : what.entries) {
                if (entry.name == text) value.integer = entry.value, found = true;
            }
            if (!found) fail(GC_ERR_INVALID_VALUE, name + ": it has no value " + text);
        }
    }
    if (end != nullptr && (end == text.c_str() || *end != '\0')) {
        fail(GC_ERR_INVALID_VALUE, name + ": found " + text + ", it takes a number");
    }
    change(index, value);
}

}  // namespace vcam

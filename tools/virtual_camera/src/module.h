// What all GenTL modules share: handles, errors, and the way in which numbers and texts are handed
// out. Everything behind the C functions throws Error; guarded() turns that into a code and a text
// that the thread can ask for with GCGetLastError.
#pragma once

#include <cstring>
#include <memory>
#include <string>

#include "gentl.h"

namespace vcam {

struct Error {
    GC_ERROR code;
    std::string text;
};

[[noreturn]] void fail(GC_ERROR code, const std::string& text);

// Anything that a consumer holds a handle of.
class Handled {
public:
    virtual ~Handled() = default;
    void* handle = nullptr;
};

// Handles are numbers that are never used twice, so that one that was closed, or garbage, is
// recognised for what it is. A handle in use by one thread keeps its object alive while another
// thread closes it.
void* enlist(const std::shared_ptr<Handled>& object);
void delist(void* handle);
std::shared_ptr<Handled> lookup(void* handle);

template <class T>
std::shared_ptr<T> find(void* handle) {
    auto object = std::dynamic_pointer_cast<T>(lookup(handle));
    if (!object) fail(GC_ERR_INVALID_HANDLE, "no module of this kind has this handle");
    return object;
}

bool is_initialised();
void set_initialised(bool yes);

void set_last_error(GC_ERROR code, const std::string& text);

// Runs the body of a C function.
template <class Body>
GC_ERROR unchecked(Body body) noexcept {
    try {
        body();
        return GC_ERR_SUCCESS;
    } catch (const Error& error) {
        set_last_error(error.code, error.text);
        return error.code;
    } catch (const std::bad_alloc&) {
        set_last_error(GC_ERR_OUT_OF_MEMORY, "out of memory");
        return GC_ERR_OUT_OF_MEMORY;
    } catch (const std::exception& error) {
        set_last_error(GC_ERR_ERROR, error.what());
        return GC_ERR_ERROR;
    }
}

template <class Body>
GC_ERROR guarded(Body body) noexcept {
    return unchecked([&] {
        if (!is_initialised()) fail(GC_ERR_NOT_INITIALIZED, "GCInitLib was not called");
        body();
    });
}

template <class T>
T& given(T* pointer, const char* what) {
    if (pointer == nullptr) fail(GC_ERR_INVALID_PARAMETER, std::string(what) + " is a null pointer");
    return *pointer;
}

// The answer to one of the GetInfo functions, with the negotiation of sizes that they share: a null
// buffer asks for the size, one that is too small is refused.
class Answer {
public:
    Answer(INFO_DATATYPE* type, void* buffer, size_t* size);
    void bytes(INFO_DATATYPE type, const void* data, size_t size);
    void text(const std::string& value) {
        bytes(INFO_DATATYPE_STRING, value.c_str(), value.size() + 1);
    }
    void boolean(bool value) {
        const bool8_t one = value ? 1 : 0;
        bytes(INFO_DATATYPE_BOOL8, &one, sizeof one);
    }
    void int32(int32_t value) { bytes(INFO_DATATYPE_INT32, &value, sizeof value); }
    void uint32(uint32_t value) { bytes(INFO_DATATYPE_UINT32, &value, sizeof value); }
    void uint64(uint64_t value) { bytes(INFO_DATATYPE_UINT64, &value, sizeof value); }
    void size(size_t value) { bytes(INFO_DATATYPE_SIZET, &value, sizeof value); }
    void pointer(const void* value) { bytes(INFO_DATATYPE_PTR, &value, sizeof value); }

private:
    INFO_DATATYPE* type_;
    void* buffer_;
    size_t* size_;
};

// Hands out a text where no type goes with it (ids and URLs).
inline void hand_text(const std::string& value, char* buffer, size_t* size) {
    Answer(nullptr, buffer, size).text(value);
}

// Names of the producer that appear in several places.
constexpr const char* kVendor = "swath";
constexpr const char* kVersion = "1.0.0";
constexpr const char* kSystemModel = "swath virtual camera producer";

}  // namespace vcam
